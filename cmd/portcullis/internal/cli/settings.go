package cli

import (
	"fmt"
	"os"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// ReadSettings reads a configuration file; without one the defaults hold.
func ReadSettings(path string) (*extract.Settings, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
	}
	config, err := configv1alpha1.Load(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	settings, err := extract.NewSettings(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return settings, nil
}
