package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ObjectSync records the delivery of one namespaced object to one edge node.
// Its name is the node name, a dot, and the uid of the object; its namespace
// is the namespace of the object.
//
// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:subresource:status
type ObjectSync struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec names the delivered object.
	// +optional
	Spec ObjectSyncSpec `json:"spec,omitempty"`

	// Status tells how far the delivery got.
	// +optional
	Status ObjectSyncStatus `json:"status,omitempty"`
}

// ObjectSyncList is a list of ObjectSync records.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ObjectSyncList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the records.
	Items []ObjectSync `json:"items"`
}

// ClusterObjectSync records the delivery of one cluster-scoped object to one
// edge node. Its name is the node name, a dot, and the uid of the object.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
type ClusterObjectSync struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec names the delivered object.
	// +optional
	Spec ObjectSyncSpec `json:"spec,omitempty"`

	// Status tells how far the delivery got.
	// +optional
	Status ObjectSyncStatus `json:"status,omitempty"`
}

// ClusterObjectSyncList is a list of ClusterObjectSync records.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ClusterObjectSyncList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the records.
	Items []ClusterObjectSync `json:"items"`
}

// ObjectSyncSpec names the object a record stands for. Old records may lack
// the API version, or hold a kind in lower case or none at all.
type ObjectSyncSpec struct {
	// ObjectAPIVersion is the apiVersion of the object, for example "v1" or
	// "devices.kubeedge.io/v1beta1".
	// +optional
	ObjectAPIVersion string `json:"objectAPIVersion,omitempty"`

	// ObjectKind is the kind of the object, for example "ConfigMap".
	// +optional
	ObjectKind string `json:"objectKind,omitempty"`

	// ObjectName is the name of the object.
	// +optional
	ObjectName string `json:"objectName,omitempty"`
}

// VersionIntent is the ObjectResourceVersion of a record whose object the node
// may have been sent but has not confirmed yet.
const VersionIntent = "0"

// ObjectSyncStatus is the progress of a delivery.
type ObjectSyncStatus struct {
	// ObjectResourceVersion is the newest resource version that the node
	// confirmed. "0" means that nothing has been confirmed yet; empty means
	// that the record was created and its status was not written.
	// +optional
	ObjectResourceVersion string `json:"objectResourceVersion,omitempty"`
}
