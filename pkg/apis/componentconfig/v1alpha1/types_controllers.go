package v1alpha1

// EdgeController configures the traffic of pods, nodes, leases and their references.
type EdgeController struct {
	Enable              bool                 `json:"enable" doc:"Run this module"`
	NodeUpdateFrequency int32                `json:"nodeUpdateFrequency" doc:"Period of the node status upkeep" unit:"seconds"`
	Buffer              EdgeControllerBuffer `json:"buffer" doc:"Queue sizes of older implementations"`
	Load                EdgeControllerLoad   `json:"load" doc:"Worker counts of older implementations"`
}

// EdgeControllerBuffer holds queue sizes by kind of work. The keys are part of the file format,
// the numbers have no effect: queues are bounded per node (spec 01 §4.3 leaves that free).
type EdgeControllerBuffer struct {
	UpdatePodStatus            int32 `json:"updatePodStatus" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	UpdateNodeStatus           int32 `json:"updateNodeStatus" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	QueryConfigMap             int32 `json:"queryConfigMap" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	QuerySecret                int32 `json:"querySecret" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	PodEvent                   int32 `json:"podEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	ConfigMapEvent             int32 `json:"configMapEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	SecretEvent                int32 `json:"secretEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	RulesEvent                 int32 `json:"rulesEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	RuleEndpointsEvent         int32 `json:"ruleEndpointsEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	QueryPersistentVolume      int32 `json:"queryPersistentVolume" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	QueryPersistentVolumeClaim int32 `json:"queryPersistentVolumeClaim" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	QueryVolumeAttachment      int32 `json:"queryVolumeAttachment" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	CreateNode                 int32 `json:"createNode" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	PatchNode                  int32 `json:"patchNode" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	QueryNode                  int32 `json:"queryNode" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	UpdateNode                 int32 `json:"updateNode" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	CreatePod                  int32 `json:"createPod" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	PatchPod                   int32 `json:"patchPod" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	DeletePod                  int32 `json:"deletePod" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	CreateLease                int32 `json:"createLease" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	QueryLease                 int32 `json:"queryLease" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	ServiceAccountToken        int32 `json:"serviceAccountToken" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	CertificateSigningRequest  int32 `json:"certificateSigningRequest" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	ProcessEvent               int32 `json:"processEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
}

// EdgeControllerLoad holds worker counts by kind of work. The keys are part of the file format
// (also the odd capitals of three of them), the numbers have no effect.
type EdgeControllerLoad struct {
	UpdatePodStatusWorkers            int32 `json:"updatePodStatusWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	UpdateNodeStatusWorkers           int32 `json:"updateNodeStatusWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	ProcessEventWorkers               int32 `json:"processEventWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	QueryConfigMapWorkers             int32 `json:"queryConfigMapWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	QuerySecretWorkers                int32 `json:"querySecretWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	QueryPersistentVolumeWorkers      int32 `json:"queryPersistentVolumeWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	QueryPersistentVolumeClaimWorkers int32 `json:"queryPersistentVolumeClaimWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	QueryVolumeAttachmentWorkers      int32 `json:"queryVolumeAttachmentWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	CreateNodeWorkers                 int32 `json:"createNodeWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	PatchNodeWorkers                  int32 `json:"patchNodeWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	QueryNodeWorkers                  int32 `json:"queryNodeWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	UpdateNodeWorkers                 int32 `json:"updateNodeWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	CreatePodWorks                    int32 `json:"CreatePodWorks" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	PatchPodWorkers                   int32 `json:"patchPodWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	DeletePodWorkers                  int32 `json:"deletePodWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	CreateLeaseWorkers                int32 `json:"createLeaseWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	QueryLeaseWorkers                 int32 `json:"queryLeaseWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	UpdateRuleStatusWorkers           int32 `json:"UpdateRuleStatusWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	ServiceAccountTokenWorkers        int32 `json:"ServiceAccountTokenWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
	CertificateSigningRequestWorkers  int32 `json:"certificateSigningRequestWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
}

// DeviceController configures the traffic of devices.
type DeviceController struct {
	Enable bool                   `json:"enable" doc:"Run this module"`
	Buffer DeviceControllerBuffer `json:"buffer" doc:"Queue sizes of older implementations"`
	Load   DeviceControllerLoad   `json:"load" doc:"Worker counts of older implementations"`
}

// DeviceControllerBuffer holds queue sizes without effect.
type DeviceControllerBuffer struct {
	UpdateDeviceTwins  int32 `json:"updateDeviceTwins" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	UpdateDeviceStatus int32 `json:"updateDeviceStatus" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	DeviceEvent        int32 `json:"deviceEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	DeviceModelEvent   int32 `json:"deviceModelEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	DeviceStatusEvent  int32 `json:"deviceStatusEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
}

// DeviceControllerLoad holds worker counts without effect.
type DeviceControllerLoad struct {
	UpdateDeviceStatusWorkers int32 `json:"updateDeviceStatusWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
}

// TaskManager configures the jobs on nodes.
type TaskManager struct {
	Enable bool              `json:"enable" doc:"Run this module"`
	Buffer TaskManagerBuffer `json:"buffer" doc:"Queue sizes of older implementations"`
	Load   TaskManagerLoad   `json:"load" doc:"Worker counts of older implementations"`
}

// TaskManagerBuffer holds queue sizes without effect.
type TaskManagerBuffer struct {
	TaskStatus int32 `json:"taskStatus" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
	TaskEvent  int32 `json:"taskEvent" doc:"No effect, kept so that existing files load: queues size themselves" unit:"messages"`
}

// TaskManagerLoad holds worker counts without effect.
type TaskManagerLoad struct {
	TaskWorkers int32 `json:"taskWorkers" doc:"No effect, kept so that existing files load: concurrency adapts to the load" unit:"workers"`
}
