package doctor

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// TestDriftOfPaths: a secret segment in the registered paths is no difference, another path is, and neither is shown.
func TestDriftOfPaths(t *testing.T) {
	const segment = "00112233445566778899aabbccddeeff"
	for _, c := range []struct {
		name   string
		client func(path string) admissionregistrationv1.WebhookClientConfig
		want   string
	}{
		{"plain", hooks.ServiceClient("portcullis-system", "portcullis"), report.DoctorOK},
		{"with a segment", func(path string) admissionregistrationv1.WebhookClientConfig {
			return hooks.ServiceClient("portcullis-system", "portcullis")("/" + segment + path)
		}, report.DoctorOK},
		{"at a URL with a segment", hooks.URLClient("https://10.0.0.9:9443/"+segment, nil), report.DoctorOK},
		{"another path", func(path string) admissionregistrationv1.WebhookClientConfig {
			return hooks.ServiceClient("portcullis-system", "portcullis")("/" + segment + path + "s")
		}, report.DoctorProblem},
	} {
		r := hooks.Shipped()
		r.ClientConfig = c.client
		if got := (&installation{options: &options{}}).drift(hooksOf(r)); got.Status != c.want || strings.Contains(got.Message, segment) {
			t.Errorf("%s: %s, %s", c.name, got.Status, got.Message)
		}
	}
}
