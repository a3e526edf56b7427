package controlplane

import (
	"fmt"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// prepareAccess makes what the components use to find and to trust each other, and a client for this package.
func (cp *ControlPlane) prepareAccess() (err error) {
	if cp.ports, err = reservePorts(); err != nil {
		return err
	}
	cp.url = fmt.Sprintf("https://127.0.0.1:%d", cp.ports.apiServer)
	if cp.ca, err = newAuthority(); err != nil {
		return err
	}
	if err := cp.ca.writeFiles(cp.dir); err != nil {
		return err
	}
	if cp.admin, err = cp.RESTConfigFor("portcullis-test-admin", "system:masters"); err != nil {
		return err
	}
	if cp.http, err = rest.HTTPClientFor(cp.admin); err != nil {
		return err
	}
	cp.client, err = kubernetes.NewForConfigAndClient(cp.admin, cp.http)
	return err
}

// RESTConfig returns the configuration of a client that may do everything.
func (cp *ControlPlane) RESTConfig() *rest.Config { return rest.CopyConfig(cp.admin) }

// RESTConfigFor returns the configuration of a client that the API server knows as a user in groups, with the rights
// that RBAC gives them. Its rate is not limited on the client's side, as a limit would only slow tests down.
func (cp *ControlPlane) RESTConfigFor(user string, groups ...string) (*rest.Config, error) {
	certificate, key, err := cp.ca.client(user, groups)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            cp.url,
		QPS:             -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: cp.ca.pem, CertData: certificate, KeyData: key},
	}, nil
}

// WriteKubeconfig writes a kubeconfig whose user may do everything. It needs no other file.
func (cp *ControlPlane) WriteKubeconfig(path string) error {
	return WriteKubeconfig(path, cp.admin, "")
}

// componentKubeconfig writes the kubeconfig of a component and returns its path.
func (cp *ControlPlane) componentKubeconfig(user string) (string, error) {
	config, err := cp.RESTConfigFor(user)
	if err != nil {
		return "", err
	}
	path := filepath.Join(cp.dir, user[len("system:"):]+".kubeconfig")
	return path, WriteKubeconfig(path, config, "")
}

// WriteKubeconfig writes a kubeconfig with the address, the certificate and the key of a client, and the current namespace,
// "" for the default one.
func WriteKubeconfig(path string, config *rest.Config, namespace string) error {
	const name = "portcullis-test"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server:                   config.Host,
			CertificateAuthorityData: config.CAData,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificateData: config.CertData,
			ClientKeyData:         config.KeyData,
		}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name, Namespace: namespace}},
		CurrentContext: name,
	}, path)
}
