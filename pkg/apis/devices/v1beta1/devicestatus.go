package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeviceStatus is what an edge node reported about the Device of the same
// namespace and name.
//
// +genclient
// +genclient:noStatus
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:storageversion
type DeviceStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is empty.
	// +optional
	Spec DeviceStatusSpec `json:"spec"`

	// Status is what was reported.
	// +optional
	Status DeviceReport `json:"status"`
}

// DeviceStatusList is a list of DeviceStatus objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type DeviceStatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the statuses.
	Items []DeviceStatus `json:"items"`
}

// DeviceStatusSpec has no fields: a DeviceStatus is a report and asks for
// nothing.
type DeviceStatusSpec struct{}

// DeviceReport is what is known about a device.
type DeviceReport struct {
	// Twins are the values of the properties. A merge patch replaces the whole
	// list.
	// +optional
	Twins []Twin `json:"twins,omitempty"`

	// State is the state of the device in the words of its mapper, for example
	// "online".
	// +optional
	State string `json:"state,omitempty"`

	// LastOnlineTime is when the device was last seen, in RFC 3339 and UTC.
	// +optional
	LastOnlineTime string `json:"lastOnlineTime,omitempty"`

	// Extensions belong to other programs and are left as they are.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Extensions *runtime.RawExtension `json:"extensions,omitempty"`
}

// Keys of TwinValue.Metadata in a Twin.
const (
	// TwinMetadataTimestamp is when the edge took the value: Unix
	// milliseconds as a decimal string.
	TwinMetadataTimestamp = "timestamp"
	// TwinMetadataType is the type of the value as the edge names it.
	TwinMetadataType = "type"
)

// Twin is what is known about one property.
type Twin struct {
	// PropertyName is the name of the property in the Device.
	// +optional
	PropertyName string `json:"propertyName,omitempty"`

	// Reported is the value that the device has.
	// +optional
	Reported *TwinValue `json:"reported,omitempty"`

	// ObservedDesired is the desired value that the mapper acts on.
	// +optional
	ObservedDesired *TwinValue `json:"observedDesired,omitempty"`
}
