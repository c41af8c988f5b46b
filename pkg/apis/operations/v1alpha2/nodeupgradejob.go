package v1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/apis/operations/v1alpha1"
)

// FinalizerNodeUpgradeJob holds a NodeUpgradeJob until its nodes are let go.
const FinalizerNodeUpgradeJob = "kubeedge.io/nodeupgradejob-controller"

// NodeUpgradeJob brings the EdgeCore of many nodes to another version.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:storageversion
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
	NodeTaskSpec `json:",inline"`

	// Version is the version to go to, for example "v1.23.1".
	// +optional
	Version string `json:"version,omitempty"`

	// Image is the installation image, without tag.
	// +optional
	Image string `json:"image,omitempty"`

	// ImageDigestGetter is how the digest of the image is known. The key is
	// misspelt on the wire, and always present in what we encode.
	// +optional
	ImageDigestGetter *ImageDigestGetter `json:"imageDigestGatter"`

	// CheckItems are checked on a node before anything else: "cpu", "mem",
	// "disk".
	// +optional
	CheckItems []string `json:"checkItems,omitempty"`

	// RequireConfirmation makes each node wait until someone on it agrees.
	// +optional
	RequireConfirmation bool `json:"requireConfirmation,omitempty"`
}

// ImageDigestGetter is how the digest of an image is known: the digest for
// each architecture, or the registry that tells it.
type ImageDigestGetter struct {
	// ARM64 is the digest for arm64, for example "sha256:…".
	// +optional
	ARM64 string `json:"arm64,omitempty"`

	// AMD64 is the digest for amd64.
	// +optional
	AMD64 string `json:"amd64,omitempty"`

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
	// Phase is how far the job is.
	// +required
	Phase JobPhase `json:"phase"`

	// NodeStatus has one entry a node.
	// +optional
	NodeStatus []NodeUpgradeNodeStatus `json:"nodeStatus,omitempty"`

	// Reason explains the phase.
	// +optional
	Reason string `json:"reason,omitempty"`

	LegacyStatus `json:",inline"`

	// LegacyCurrentVersion is written by v1alpha1 only.
	// +optional
	LegacyCurrentVersion string `json:"currentVersion,omitempty"`

	// LegacyHistoricVersion is written by v1alpha1 only.
	// +optional
	LegacyHistoricVersion string `json:"historicVersion,omitempty"`
}

// NodeUpgradeNodeStatus is how far one node is.
type NodeUpgradeNodeStatus struct {
	NodeTaskStatus `json:",inline"`

	// CurrentVersion is the version that the node runs after the upgrade.
	// +optional
	CurrentVersion string `json:"currentVersion,omitempty"`

	// HistoricVersion is the version that the node ran before.
	// +optional
	HistoricVersion string `json:"historicVersion,omitempty"`

	// LegacyState is written by v1alpha1 only.
	// +optional
	LegacyState v1alpha1.State `json:"state,omitempty"`

	// LegacyEvent is written by v1alpha1 only.
	// +optional
	LegacyEvent string `json:"event,omitempty"`
}
