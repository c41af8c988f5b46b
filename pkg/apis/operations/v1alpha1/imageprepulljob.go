package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ImagePrePullJob brings images to many nodes before pods need them.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
type ImagePrePullJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says which nodes get which images.
	// +required
	Spec ImagePrePullJobSpec `json:"spec"`

	// Status tells how far the job is.
	// +optional
	Status ImagePrePullJobStatus `json:"status,omitempty"`
}

// ImagePrePullJobList is a list of ImagePrePullJob objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ImagePrePullJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the jobs.
	Items []ImagePrePullJob `json:"items"`
}

// ImagePrePullJobSpec wraps the description of the job.
type ImagePrePullJobSpec struct {
	// ImagePrePullTemplate says which nodes get which images.
	// +optional
	ImagePrePullTemplate ImagePrePullTemplate `json:"imagePrePullTemplate,omitempty"`
}

// ImagePrePullTemplate says which nodes get which images.
type ImagePrePullTemplate struct {
	// Images are the images to pull.
	// +optional
	Images []string `json:"images,omitempty"`

	// NodeNames are the nodes. Either this or labelSelector is set.
	// +optional
	NodeNames []string `json:"nodeNames,omitempty"`

	// LabelSelector selects the nodes. Either this or nodeNames is set.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`

	// CheckItems are checked on a node before anything else: "cpu", "mem",
	// "disk".
	// +optional
	CheckItems []string `json:"checkItems,omitempty"`

	// FailureTolerate is the share of nodes that may fail, for example "0.1".
	// +optional
	FailureTolerate string `json:"failureTolerate,omitempty"`

	// Concurrency is how many nodes pull at a time.
	// +optional
	Concurrency int32 `json:"concurrency,omitempty"`

	// TimeoutSeconds bounds each stage on a node.
	// +optional
	TimeoutSeconds *uint32 `json:"timeoutSeconds,omitempty"`

	// ImageSecret is the pull secret as "namespace/name". The key on the wire
	// is a plural, the value is one.
	// +optional
	ImageSecret string `json:"imageSecrets,omitempty"`

	// RetryTimes is how often a failed pull is tried again.
	// +optional
	RetryTimes int32 `json:"retryTimes,omitempty"`
}

// ImagePrePullJobStatus tells how far a job is.
type ImagePrePullJobStatus struct {
	// State is the stage of the job.
	// +optional
	State State `json:"state,omitempty"`

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

	// Status is the progress of each node.
	// +optional
	Status []ImagePrePullStatus `json:"status,omitempty"`
}

// ImagePrePullStatus is how far one node is.
type ImagePrePullStatus struct {
	// NodeStatus is the progress of the node.
	// +optional
	NodeStatus *TaskStatus `json:"nodeStatus,omitempty"`

	// ImageStatus is what became of each image.
	// +optional
	ImageStatus []ImageStatus `json:"imageStatus,omitempty"`
}

// ImageStatus is what became of one image on one node.
type ImageStatus struct {
	// Image is the image.
	// +optional
	Image string `json:"image,omitempty"`

	// State tells whether the image was pulled.
	// +optional
	State State `json:"state,omitempty"`

	// Reason explains a failure.
	// +optional
	Reason string `json:"reason,omitempty"`
}
