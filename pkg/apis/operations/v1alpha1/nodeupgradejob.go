package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeUpgradeJob brings the EdgeCore of many nodes to another version.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
type NodeUpgradeJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says which nodes go to which version.
	// +optional
	Spec NodeUpgradeJobSpec `json:"spec,omitempty"`

	// Status tells how far the job is.
	// +optional
	Status NodeUpgradeJobStatus `json:"status,omitempty"`
}

// NodeUpgradeJobList is a list of NodeUpgradeJob objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type NodeUpgradeJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the jobs.
	Items []NodeUpgradeJob `json:"items"`
}

// NodeUpgradeJobSpec says which nodes go to which version.
type NodeUpgradeJobSpec struct {
	// Version is the version to go to, for example "v1.20.0".
	// +optional
	Version string `json:"version,omitempty"`

	// TimeoutSeconds bounds each stage on a node.
	// +optional
	TimeoutSeconds *uint32 `json:"timeoutSeconds,omitempty"`

	// NodeNames are the nodes. Either this or labelSelector is set.
	// +optional
	NodeNames []string `json:"nodeNames,omitempty"`

	// LabelSelector selects the nodes. Either this or nodeNames is set.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`

	// Image is the installation image, without tag.
	// +optional
	Image string `json:"image,omitempty"`

	// ImageDigestGetter is how the digest of the image is known. The name is
	// misspelt on the wire.
	// +optional
	ImageDigestGetter *ImageDigestGetter `json:"imageDigestGatter"`

	// Concurrency is how many nodes are upgraded at a time.
	// +optional
	Concurrency int32 `json:"concurrency,omitempty"`

	// CheckItems are checked on a node before anything else: "cpu", "mem",
	// "disk".
	// +optional
	CheckItems []string `json:"checkItems,omitempty"`

	// FailureTolerate is the share of nodes that may fail, for example "0.1".
	// +optional
	FailureTolerate string `json:"failureTolerate,omitempty"`

	// RequireConfirmation makes each node wait until someone on it agrees.
	// +optional
	RequireConfirmation bool `json:"requireConfirmation,omitempty"`
}

// ImageDigestGetter is how the digest of an image is known: the digest, or the
// registry that tells it.
type ImageDigestGetter struct {
	// Value is the digest, for example "sha256:…".
	// +optional
	Value *string `json:"value,omitempty"`

	// RegistryAPI is the registry to ask.
	// +optional
	RegistryAPI *RegistryAPI `json:"registryAPI,omitempty"`
}

// RegistryAPI is a registry that tells digests.
type RegistryAPI struct {
	// Host is the address of the registry.
	Host string `json:"host"`

	// Token is the bearer token for it. It never leaves the cloud.
	Token string `json:"token"`
}

// NodeUpgradeJobStatus tells how far a job is.
type NodeUpgradeJobStatus struct {
	// State is the stage of the job.
	// +optional
	State State `json:"state,omitempty"`

	// CurrentVersion is the version after the upgrade.
	// +optional
	CurrentVersion string `json:"currentVersion,omitempty"`

	// HistoricVersion is the version before the upgrade.
	// +optional
	HistoricVersion string `json:"historicVersion,omitempty"`

	// Event is what happened last.
	// +optional
	Event string `json:"event,omitempty"`

	// Action is how that ended.
	// +optional
	Action Action `json:"action,omitempty"`

	// Reason explains a failure.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Time is when it happened.
	// +optional
	Time string `json:"time,omitempty"`

	// NodeStatus is the progress of each node.
	// +optional
	NodeStatus []TaskStatus `json:"nodeStatus,omitempty"`
}
