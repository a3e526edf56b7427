// Package load proves what the program does under load: how many reviews it answers beside a webhook that does nothing,
// how much memory the largest cluster takes, and that nothing drifts or grows while a cluster churns.
package load

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Generated says how large a generated cluster is.
type Generated struct{ Nodes, PodsPerNode, Services int }

// The first node port of the Services of a generated cluster; each has the next one. Nothing holds those beyond.
const firstNodePort = 20000

// resource is one kind that a generated cluster has.
type resource struct {
	kind   schema.GroupVersionKind
	plural string
	count  int
	object func(i int) runtime.Object
}

func (g Generated) resources() []resource {
	none := func(int) runtime.Object { return nil }
	core, apps, batch := corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion
	return []resource{
		{core.WithKind("Node"), "nodes", g.Nodes, g.node},
		{core.WithKind("Service"), "services", g.Services, g.service},
		{core.WithKind("Pod"), "pods", g.Nodes * g.PodsPerNode, g.pod},
		{core.WithKind("ReplicationController"), "replicationcontrollers", 0, none},
		{core.WithKind("Namespace"), "namespaces", 0, none},
		{apps.WithKind("Deployment"), "deployments", 0, none},
		{apps.WithKind("StatefulSet"), "statefulsets", 0, none},
		{apps.WithKind("DaemonSet"), "daemonsets", 0, none},
		{apps.WithKind("ReplicaSet"), "replicasets", 0, none},
		{batch.WithKind("Job"), "jobs", 0, none},
		{batch.WithKind("CronJob"), "cronjobs", 0, none},
		{networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"), "servicecidrs", 0, none},
		// Of which there is none, so that there are no pools.
		{schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, "customresourcedefinitions", 0, none},
	}
}

func (g Generated) node(i int) runtime.Object {
	n := &corev1.Node{ObjectMeta: meta("", fmt.Sprintf("node-%d", i))}
	n.Labels = map[string]string{"kubernetes.io/hostname": n.Name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": fmt.Sprint("zone-", i%3)}
	n.Spec.PodCIDR = fmt.Sprintf("10.%d.%d.0/24", 128+i/256, i%256)
	n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.16.%d.%d", i/256, i%256)}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	return n
}

func (g Generated) service(i int) runtime.Object {
	s := nodePortService(fmt.Sprintf("service-%d", i), int32(firstNodePort+i))
	s.Spec.ClusterIP = fmt.Sprintf("10.96.%d.%d", i/256, i%256)
	s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	return s
}

// pod has a host port that no other pod of its node has.
func (g Generated) pod(i int) runtime.Object {
	p := hostPortPod(fmt.Sprintf("pod-%d", i), int32(9000+i%g.PodsPerNode))
	p.Spec.NodeName = fmt.Sprintf("node-%d", i/g.PodsPerNode)
	p.Status.Phase = corev1.PodRunning
	p.Status.PodIP = fmt.Sprintf("10.%d.%d.%d", 128+i/g.PodsPerNode/256, i/g.PodsPerNode%256, i%g.PodsPerNode)
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Ready: true, Image: "registry.example/team/app:1.2.3"}}
	return p
}

func nodePortService(name string, number int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta("team", name)}
	s.Spec.Type = corev1.ServiceTypeNodePort
	s.Spec.Selector = map[string]string{"app": name}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: number}}
	return s
}

func hostPortPod(name string, number int32) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta("team", name)}
	p.Spec.Containers = []corev1.Container{{
		Name: "c", Image: "registry.example/team/app:1.2.3", Command: []string{"/app", "--listen=:8080"},
		Env:          []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}, {Name: "LEVEL", Value: "info"}},
		Ports:        []corev1.ContainerPort{{ContainerPort: 8080, HostPort: number, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: []corev1.VolumeMount{{Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
	}}
	return p
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: "00000000-0000-0000-0000-000000000000", ResourceVersion: "1",
		Labels: map[string]string{"app": name, "team": "payments"}, Annotations: map[string]string{"example.com/deployed-by": "continuous delivery"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:app":{},"f:team":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:ports":{}}}}}`)}},
	}
}

// Serve is a server that stands in for an API server: it serves the discovery of these kinds, and of each a watch that
// begins with all objects, in protobuf, as clients of today ask for. Nothing ever changes, and nothing can be written but the
// journal of the replicas. It writes a kubeconfig for itself.
func (g Generated) Serve(kubeconfig string) (*httptest.Server, error) {
	mux := http.NewServeMux()
	groups := map[schema.GroupVersion]*metav1.APIResourceList{}
	for _, r := range g.resources() {
		gv := r.kind.GroupVersion()
		base := "/apis/" + gv.String()
		if gv.Group == "" {
			base = "/api/" + gv.Version
		}
		if groups[gv] == nil {
			list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: gv.String()}
			groups[gv] = list
			mux.HandleFunc("GET "+base, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, list) })
		}
		groups[gv].APIResources = append(groups[gv].APIResources, metav1.APIResource{
			Name: r.plural, SingularName: strings.ToLower(r.kind.Kind), Kind: r.kind.Kind, Namespaced: !slices.Contains([]string{"Node", "Namespace", "ServiceCIDR", "CustomResourceDefinition"}, r.kind.Kind), Verbs: metav1.Verbs{"get", "list", "watch"},
		})
		mux.HandleFunc("GET "+base+"/"+r.plural, r.stream)
		mux.HandleFunc("GET "+base+"/namespaces/{namespace}/"+r.plural+"/{name}", r.get)
	}
	core := groups[corev1.SchemeGroupVersion]
	core.APIResources = append(core.APIResources, metav1.APIResource{Name: "configmaps", SingularName: "configmap", Kind: "ConfigMap", Namespaced: true, Verbs: metav1.Verbs{"get", "create", "update"}})
	(&configMap{}).register(mux)
	mux.HandleFunc("GET /api", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, &metav1.APIVersions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIVersions"}, Versions: []string{"v1"}})
	})
	mux.HandleFunc("GET /apis", func(w http.ResponseWriter, _ *http.Request) {
		list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}}
		for gv := range groups {
			if version := (metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}); gv.Group != "" {
				list.Groups = append(list.Groups, metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version})
			}
		}
		answer(w, http.StatusOK, list)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { notFound(w) })
	server := httptest.NewTLSServer(mux)
	config := clientcmdapi.NewConfig()
	config.Clusters["generated"] = &clientcmdapi.Cluster{Server: server.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}
	config.AuthInfos["generated"] = &clientcmdapi.AuthInfo{Token: "anybody"}
	config.Contexts["generated"] = &clientcmdapi.Context{Cluster: "generated", AuthInfo: "generated"}
	config.CurrentContext = "generated"
	return server, clientcmd.WriteToFile(*config, kubeconfig)
}

func notFound(w http.ResponseWriter) {
	answer(w, http.StatusNotFound, &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: "a generated cluster has no such thing",
	})
}

// configMap is the one ConfigMap that can be written. Only one client writes it, so that nothing is compared.
type configMap struct {
	mu      sync.Mutex
	stored  *corev1.ConfigMap
	version int
}

func (c *configMap) register(mux *http.ServeMux) {
	const all = "/api/v1/namespaces/{namespace}/configmaps"
	mux.HandleFunc("GET "+all+"/{name}", func(w http.ResponseWriter, _ *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.stored == nil {
			notFound(w)
			return
		}
		answer(w, http.StatusOK, c.stored)
	})
	write := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		m, ok := object.(*corev1.ConfigMap)
		if err != nil || !ok {
			http.Error(w, "no ConfigMap", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.version++
		m.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		m.ResourceVersion, m.UID = strconv.Itoa(c.version), "00000000-0000-0000-0000-000000000001"
		c.stored = m
		answer(w, http.StatusOK, m)
	}
	mux.HandleFunc("POST "+all, write)
	mux.HandleFunc("PUT "+all+"/{name}", write)
}

func answer(w http.ResponseWriter, status int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object) // a client that has gone needs no answer
}

// get sends one object: its name ends in its number.
func (r resource) get(w http.ResponseWriter, request *http.Request) {
	name := request.PathValue("name")
	i, err := strconv.Atoi(name[strings.LastIndex(name, "-")+1:])
	if err != nil || i < 0 || i >= r.count {
		notFound(w)
		return
	}
	object := r.object(i)
	object.GetObjectKind().SetGroupVersionKind(r.kind)
	answer(w, http.StatusOK, object)
}

// stream sends all objects of a kind, says that these are all, and then nothing more.
func (r resource) stream(w http.ResponseWriter, request *http.Request) {
	q := request.URL.Query()
	if q.Get("watch") == "" || q.Get("sendInitialEvents") != "true" && q.Get("resourceVersion") == "" {
		answer(w, http.StatusBadRequest, &metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: http.StatusBadRequest, Message: "a generated cluster can only be watched",
		})
		return
	}
	w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
	w.WriteHeader(http.StatusOK)
	out := protobuf.LengthDelimitedFramer.NewFrameWriter(w)
	if q.Get("sendInitialEvents") == "true" {
		if err := r.sendAll(out); err != nil {
			return // the client has gone
		}
	}
	_ = http.NewResponseController(w).Flush()
	<-request.Context().Done()
}

func (r resource) sendAll(out io.Writer) error {
	encoder := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	send := func(event string, object runtime.Object) error {
		object.GetObjectKind().SetGroupVersionKind(r.kind)
		encoded, err := runtime.Encode(encoder, object)
		if err != nil {
			return err
		}
		frame, err := (&metav1.WatchEvent{Type: event, Object: runtime.RawExtension{Raw: encoded}}).Marshal()
		if err != nil {
			return err
		}
		_, err = out.Write(frame)
		return err
	}
	for i := range r.count {
		if err := send("ADDED", r.object(i)); err != nil {
			return err
		}
	}
	end, err := scheme.Scheme.New(r.kind)
	if err != nil {
		return err
	}
	bookmark := end.(metav1.Object) //nolint:forcetypeassert // every kind here has metadata
	bookmark.SetResourceVersion("1")
	bookmark.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return send("BOOKMARK", end)
}
