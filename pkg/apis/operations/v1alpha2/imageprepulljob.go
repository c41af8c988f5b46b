package v1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/apis/operations/v1alpha1"
)

// FinalizerImagePrePullJob holds an ImagePrePullJob until its nodes are let go.
const FinalizerImagePrePullJob = "kubeedge.io/imageprepulljob-controller"

// ImagePrePullJob brings images to many nodes before pods need them.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:storageversion
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
	NodeTaskSpec `json:",inline"`

	// Images are the images to pull.
	// +optional
	Images []string `json:"images,omitempty"`

	// CheckItems are checked on a node before anything else: "cpu", "mem",
	// "disk".
	// +optional
	CheckItems []string `json:"checkItems,omitempty"`

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
	// Phase is how far the job is.
	// +required
	Phase JobPhase `json:"phase"`

	// NodeStatus has one entry a node.
	// +optional
	NodeStatus []ImagePrePullNodeStatus `json:"nodeStatus,omitempty"`

	// Reason explains the phase.
	// +optional
	Reason string `json:"reason,omitempty"`

	LegacyStatus `json:",inline"`

	// LegacyNodeStatus is written by v1alpha1 only.
	// +optional
	LegacyNodeStatus []v1alpha1.ImagePrePullStatus `json:"status,omitempty"`
}

// ImagePrePullNodeStatus is how far one node is.
type ImagePrePullNodeStatus struct {
	NodeTaskStatus `json:",inline"`

	// ImageStatus is what became of each image.
	// +optional
	ImageStatus []ImageStatus `json:"imageStatus,omitempty"`
}

// ImageStatus is what became of one image on one node.
type ImageStatus struct {
	// Image is the image.
	// +optional
	Image string `json:"image,omitempty"`

	// Status is "True" after success and "False" after failure.
	// +optional
	Status metav1.ConditionStatus `json:"status,omitempty"`

	// Reason explains a failure.
	// +optional
	Reason string `json:"reason,omitempty"`
}
