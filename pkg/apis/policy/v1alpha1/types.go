package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ServiceAccountAccess is what one ServiceAccount may do, in the form that
// edge nodes evaluate.
//
// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=saaccess
type ServiceAccountAccess struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the account and its permissions.
	// +required
	Spec AccessSpec `json:"spec"`

	// Status tells where copies are.
	// +optional
	Status AccessStatus `json:"status,omitempty"`
}

// ServiceAccountAccessList is a list of ServiceAccountAccess objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ServiceAccountAccessList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the objects.
	Items []ServiceAccountAccess `json:"items"`
}

// AccessSpec is an account and its permissions. The apiserver keeps only
// name, namespace, labels, annotations and finalizers of the metadata of the
// objects embedded here.
type AccessSpec struct {
	// ServiceAccount is the account.
	// +optional
	ServiceAccount corev1.ServiceAccount `json:"serviceAccount"`

	// ServiceAccountUID is the uid of the account, which the embedded
	// metadata can't hold. Nodes compare it with the uid in a token.
	// +optional
	ServiceAccountUID types.UID `json:"serviceAccountUid,omitempty"`

	// AccessRoleBinding are the RoleBindings in the namespace of the account
	// that apply to it.
	// +optional
	AccessRoleBinding []AccessRoleBinding `json:"accessRoleBinding,omitempty"`

	// AccessClusterRoleBinding are the ClusterRoleBindings that apply to the
	// account.
	// +optional
	AccessClusterRoleBinding []AccessClusterRoleBinding `json:"accessClusterRoleBinding,omitempty"`
}

// AccessRoleBinding is a RoleBinding with the rules that it grants.
type AccessRoleBinding struct {
	// RoleBinding is the binding.
	// +optional
	RoleBinding rbacv1.RoleBinding `json:"roleBinding"`

	// Rules are those of the bound Role or ClusterRole.
	// +optional
	Rules []rbacv1.PolicyRule `json:"rules,omitempty"`
}

// AccessClusterRoleBinding is a ClusterRoleBinding with the rules that it
// grants.
type AccessClusterRoleBinding struct {
	// ClusterRoleBinding is the binding.
	// +optional
	ClusterRoleBinding rbacv1.ClusterRoleBinding `json:"clusterRoleBinding"`

	// Rules are those of the bound ClusterRole.
	// +optional
	Rules []rbacv1.PolicyRule `json:"rules,omitempty"`
}

// AccessStatus tells where copies of the object are.
type AccessStatus struct {
	// NodeList are the names of the edge nodes that hold the object.
	// +optional
	NodeList []string `json:"nodeList,omitempty"`
}
