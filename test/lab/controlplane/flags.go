package controlplane

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// Where the API server is said to be in the Endpoints of the Service kubernetes. It listens on loopback in truth, but
// Endpoints may not hold a loopback address; nothing here uses them. The family must be that of the Service.
const (
	advertisedIPv4 = "192.168.9.1"
	advertisedIPv6 = "fd00:9::1"
)

func (cp *ControlPlane) etcdFlags() []string {
	client, peer := cp.etcdURL(), fmt.Sprintf("http://127.0.0.1:%d", cp.ports.etcdPeer)
	return []string{
		"--data-dir=" + filepath.Join(cp.dir, "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--unsafe-no-fsync=true",
	}
}

func (cp *ControlPlane) etcdURL() string {
	return fmt.Sprintf("http://127.0.0.1:%d", cp.ports.etcdClient)
}

func (cp *ControlPlane) apiServerFlags() ([]string, error) {
	primary, err := netip.ParsePrefix(cp.options.ServiceCIDRs[0])
	if err != nil {
		return nil, fmt.Errorf("service CIDR: %w", err)
	}
	advertised := advertisedIPv4
	if primary.Addr().Is6() {
		advertised = advertisedIPv6
	}
	const issuer = "https://kubernetes.default.svc.cluster.local"
	flags := append(cp.servingFlags(cp.ports.apiServer),
		"--etcd-servers="+cp.etcdURL(),
		"--advertise-address="+advertised,
		"--client-ca-file="+filepath.Join(cp.dir, caFile),
		"--authorization-mode=RBAC",
		"--service-account-issuer="+issuer,
		"--service-account-key-file="+filepath.Join(cp.dir, serviceAccountFile),
		"--service-account-signing-key-file="+filepath.Join(cp.dir, serviceAccountFile),
		"--service-cluster-ip-range="+strings.Join(cp.options.ServiceCIDRs, ","),
		"--service-node-port-range="+cp.options.NodePortRange,
		"--allow-privileged=true",
		// It refuses pods in a namespace until a controller has made that namespace's default service account: a
		// race in every test that makes a namespace, and a wall if there is no controller manager.
		"--disable-admission-plugins=ServiceAccount",
	)
	return append(flags, cp.options.APIServerFlags...), nil
}

func (cp *ControlPlane) controllerManagerFlags() ([]string, error) {
	kubeconfig, err := cp.componentKubeconfig("system:kube-controller-manager")
	if err != nil {
		return nil, err
	}
	flags := append(cp.servingFlags(cp.ports.controllerManager),
		"--kubeconfig="+kubeconfig,
		"--leader-elect=false",
		// As in a real cluster each controller is a user of its own: admission sees who created a pod.
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+filepath.Join(cp.dir, serviceAccountFile),
		"--root-ca-file="+filepath.Join(cp.dir, caFile),
		// The default of 20 requests a second makes big rollouts wait for nothing.
		"--kube-api-qps=200", "--kube-api-burst=400",
	)
	if grace := cp.options.NodeMonitorGracePeriod; grace > 0 {
		flags = append(flags, "--node-monitor-grace-period="+grace.String(), "--node-monitor-period="+(grace/8).String())
	}
	return append(flags, cp.options.ControllerManagerFlags...), nil
}

func (cp *ControlPlane) schedulerFlags() ([]string, error) {
	kubeconfig, err := cp.componentKubeconfig("system:kube-scheduler")
	if err != nil {
		return nil, err
	}
	flags := append(cp.servingFlags(cp.ports.scheduler), "--authentication-skip-lookup=true")
	if cp.options.SchedulerConfig == "" {
		flags = append(flags, "--kubeconfig="+kubeconfig, "--leader-elect=false")
	} else {
		config, err := cp.schedulerConfig(kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("scheduler configuration: %w", err)
		}
		flags = append(flags, "--config="+config)
	}
	return append(flags, cp.options.SchedulerFlags...), nil
}

// schedulerConfig writes a copy of the scheduler's configuration that knows this control plane and returns its path.
// With --config the scheduler ignores the flags that would say the same.
func (cp *ControlPlane) schedulerConfig(kubeconfig string) (string, error) {
	data, err := os.ReadFile(cp.options.SchedulerConfig)
	if err != nil {
		return "", err
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(data, &config); err != nil {
		return "", fmt.Errorf("%s: %w", cp.options.SchedulerConfig, err)
	}
	set := func(section, key string, value any) {
		fields, ok := config[section].(map[string]any)
		if !ok {
			fields = map[string]any{}
			config[section] = fields
		}
		fields[key] = value
	}
	set("clientConnection", "kubeconfig", kubeconfig)
	set("leaderElection", "leaderElect", false)
	if data, err = yaml.Marshal(config); err != nil {
		return "", err
	}
	path := filepath.Join(cp.dir, "scheduler.yaml")
	return path, os.WriteFile(path, data, 0o600)
}

// servingFlags makes a component serve on a port of loopback with a certificate that the authority issued.
func (cp *ControlPlane) servingFlags(port int) []string {
	return []string{
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + filepath.Join(cp.dir, servingCertFile),
		"--tls-private-key-file=" + filepath.Join(cp.dir, servingKeyFile),
		"--v=1",
	}
}
