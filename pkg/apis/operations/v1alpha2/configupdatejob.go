package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// FinalizerConfigUpdateJob holds a ConfigUpdateJob until its nodes are let go.
const FinalizerConfigUpdateJob = "kubeedge.io/configupdatejob-controller"

// ConfigUpdateJob changes settings of the EdgeCore of many nodes.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:storageversion
type ConfigUpdateJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says which settings change on which nodes.
	// +optional
	Spec ConfigUpdateJobSpec `json:"spec,omitempty"`

	// Status tells how far the job is.
	// +optional
	Status ConfigUpdateJobStatus `json:"status,omitempty"`
}

// ConfigUpdateJobList is a list of ConfigUpdateJob objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ConfigUpdateJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the jobs.
	Items []ConfigUpdateJob `json:"items"`
}

// ConfigUpdateJobSpec says which settings change on which nodes.
type ConfigUpdateJobSpec struct {
	NodeTaskSpec `json:",inline"`

	// UpdateFields are the settings by their path in the EdgeCore
	// configuration, for example {"modules.edgeStream.enable": "true"}.
	// +required
	UpdateFields map[string]string `json:"updateFields"`
}

// ConfigUpdateJobStatus tells how far a job is.
type ConfigUpdateJobStatus struct {
	// Phase is how far the job is.
	// +required
	Phase JobPhase `json:"phase"`

	// NodeStatus has one entry a node.
	// +optional
	NodeStatus []NodeTaskStatus `json:"nodeStatus,omitempty"`

	// Reason explains the phase.
	// +optional
	Reason string `json:"reason,omitempty"`
}
