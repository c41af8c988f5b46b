package v1alpha1

// Identity of the file. Neither value is checked on load (spec 01 §3).
const (
	APIVersion = "cloudcore.config.kubeedge.io/v1alpha1"
	Kind       = "CloudCore"
)

// CloudCoreConfig is the whole file.
type CloudCoreConfig struct {
	APIVersion    string          `json:"apiVersion" doc:"Format of this file"`
	Kind          string          `json:"kind" doc:"Kind of this file"`
	FeatureGates  map[string]bool `json:"featureGates" doc:"Switches by name: requireAuthorization, moduleRestart, disableNodeTaskV1alpha2, AllAlpha, AllBeta; every gate is off unless named here"`
	CommonConfig  CommonConfig    `json:"commonConfig" doc:"What concerns the whole process"`
	KubeAPIConfig KubeAPIConfig   `json:"kubeAPIConfig" doc:"How to reach kube-apiserver"`
	Modules       Modules         `json:"modules" doc:"The modules and their settings"`
}

// CommonConfig concerns the whole process.
type CommonConfig struct {
	TunnelPort    int32         `json:"tunnelPort" doc:"Kubelet port published for nodes of this replica; agreed between replicas at start, the value written here is never used" unit:"TCP port"`
	MonitorServer MonitorServer `json:"monitorServer" doc:"Metrics, health and profiling over plain HTTP"`
}

// MonitorServer configures the metrics and health listener.
type MonitorServer struct {
	BindAddress     string `json:"bindAddress" doc:"Where to listen, as IP:port; empty switches the server off"`
	EnableProfiling bool   `json:"enableProfiling" doc:"Serve Go profiles under /debug/pprof/"`
}

// KubeAPIConfig says how to reach kube-apiserver. With both Master and KubeConfig empty the
// in-cluster service account is used.
type KubeAPIConfig struct {
	Master      string `json:"master" doc:"URL of kube-apiserver; wins over the server in kubeConfig"`
	KubeConfig  string `json:"kubeConfig" doc:"Absolute path of a kubeconfig file; empty together with master means the service account of the pod"`
	ContentType string `json:"contentType" doc:"Encoding of requests for built-in kinds: application/vnd.kubernetes.protobuf or application/json"`
	QPS         int32  `json:"qps" doc:"Sustained rate of all requests to kube-apiserver together; 5 x nodeLimit unless set to another value" unit:"requests per second"`
	Burst       int32  `json:"burst" doc:"Requests that may exceed qps for a moment; 10 x nodeLimit unless set to another value" unit:"requests"`
}

// Modules holds the settings of every module.
type Modules struct {
	CloudHub          CloudHub          `json:"cloudHub" doc:"Connections of the edge nodes"`
	EdgeController    EdgeController    `json:"edgeController" doc:"Pods, nodes, leases and what they refer to"`
	DeviceController  DeviceController  `json:"deviceController" doc:"Devices and device models"`
	TaskManager       TaskManager       `json:"taskManager" doc:"Node upgrade, image pre-pull and configuration jobs"`
	SyncController    SyncController    `json:"syncController" doc:"Upkeep of the delivery records (ObjectSync, ClusterObjectSync)"`
	DynamicController DynamicController `json:"dynamicController" doc:"List and watch of arbitrary kinds for applications at the edge"`
	CloudStream       CloudStream       `json:"cloudStream" doc:"Tunnel for logs, exec, attach and metrics of edge nodes"`
	Router            Router            `json:"router" doc:"REST and message routes between cloud and edge"`
	IptablesManager   IptablesManager   `json:"iptablesManager" doc:"NAT rules that lead the kubelet port of edge nodes into the tunnel"`
}

// SyncController configures the upkeep of delivery records.
type SyncController struct {
	Enable bool `json:"enable" doc:"Run this module"`
}

// DynamicController configures list and watch for edge applications.
type DynamicController struct {
	Enable bool `json:"enable" doc:"Run this module"`
}

// CloudStream configures the stream tunnel. TunnelPort is the port that edge nodes dial; it has
// nothing to do with CommonConfig.TunnelPort.
type CloudStream struct {
	Enable                  bool   `json:"enable" doc:"Run this module"`
	TLSTunnelCAFile         string `json:"tlsTunnelCAFile" doc:"CA of the edge side of the tunnel, path of a PEM file; missing files are replaced by those of cloudHub"`
	TLSTunnelCertFile       string `json:"tlsTunnelCertFile" doc:"Serving certificate of the edge side, path of a PEM file"`
	TLSTunnelPrivateKeyFile string `json:"tlsTunnelPrivateKeyFile" doc:"Key of the serving certificate of the edge side, path of a PEM file"`
	TunnelPort              uint32 `json:"tunnelPort" doc:"Where edge nodes dial the tunnel" unit:"TCP port"`
	TLSStreamCAFile         string `json:"tlsStreamCAFile" doc:"CA that kube-apiserver's client certificate must come from, path of a PEM file; must exist"`
	TLSStreamCertFile       string `json:"tlsStreamCertFile" doc:"Serving certificate shown to kube-apiserver, path of a PEM file; must exist"`
	TLSStreamPrivateKeyFile string `json:"tlsStreamPrivateKeyFile" doc:"Key of the certificate shown to kube-apiserver, path of a PEM file; must exist"`
	StreamPort              uint32 `json:"streamPort" doc:"Where kube-apiserver's requests for edge kubelets arrive" unit:"TCP port"`
}

// Router configures the REST listener of the message router.
type Router struct {
	Enable      bool   `json:"enable" doc:"Run this module"`
	Address     string `json:"address" doc:"Address to listen on"`
	Port        uint32 `json:"port" doc:"Port to listen on" unit:"TCP port"`
	RestTimeout uint32 `json:"restTimeout" doc:"How long a REST call may take" unit:"seconds"`
}

// IptablesMode says who keeps the NAT rules.
type IptablesMode string

// The modes. Any other value fails the load (spec 01 §3).
const (
	IptablesInternal IptablesMode = "internal" // by this process
	IptablesExternal IptablesMode = "external" // by the cloud-iptables-manager DaemonSet
)

// IptablesModes lists every valid mode.
func IptablesModes() []string {
	return []string{string(IptablesInternal), string(IptablesExternal)}
}

// IptablesManager configures the NAT rules of the stream tunnel.
type IptablesManager struct {
	Enable bool         `json:"enable" doc:"Run this module"`
	Mode   IptablesMode `json:"mode" doc:"internal: rules are kept by this process; external: by the cloud-iptables-manager DaemonSet"`
}
