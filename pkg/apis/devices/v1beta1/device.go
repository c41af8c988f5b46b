package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Device is one device, reached through one edge node.
//
// +genclient
// +genclient:noStatus
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:storageversion
type Device struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec describes the device.
	// +optional
	Spec DeviceSpec `json:"spec,omitempty"`

	// Status holds reporting settings that edge nodes before 1.23 read.
	// Unknown fields survive, because up to 1.22 reported values were here.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Status DeviceReportSettings `json:"status,omitempty"`
}

// DeviceList is a list of Device objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type DeviceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the devices.
	Items []Device `json:"items"`
}

// DeviceSpec describes a device.
type DeviceSpec struct {
	// DeviceModelRef names the DeviceModel, in the namespace of the device.
	// +optional
	DeviceModelRef *corev1.LocalObjectReference `json:"deviceModelRef,omitempty"`

	// NodeName is the edge node that reaches the device. Without it no node
	// gets the device.
	// +optional
	NodeName string `json:"nodeName,omitempty"`

	// Properties say how each property is read, written and reported. Names
	// should be unique.
	// +optional
	Properties []DeviceProperty `json:"properties,omitempty"`

	// Protocol is how the device is reached. Its name selects the mapper on
	// the node.
	// +optional
	Protocol ProtocolConfig `json:"protocol"`

	// Methods are groups of properties that applications call by name.
	// +optional
	Methods []DeviceMethod `json:"methods,omitempty"`

	// StateReport says whether and how often the state of the device is
	// reported. Nodes since 1.23 prefer it over status.
	// +optional
	StateReport *DeviceReportSettings `json:"stateReport,omitempty"`
}

// DeviceReportSettings says whether and how often the state of a device is
// reported.
type DeviceReportSettings struct {
	// ReportToCloud switches the reports on.
	// +optional
	ReportToCloud bool `json:"reportToCloud,omitempty"`

	// ReportCycle is the time between two reports, in the unit of the mapper.
	// +optional
	ReportCycle int64 `json:"reportCycle,omitempty"`
}

// ProtocolConfig holds the settings of a protocol, for a whole device or for
// one of its properties.
type ProtocolConfig struct {
	// ProtocolName is the name that the mapper registered.
	// +optional
	ProtocolName string `json:"protocolName,omitempty"`

	// ConfigData are settings that only the mapper understands.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ConfigData *runtime.RawExtension `json:"configData,omitempty"`
}

// DeviceMethod is a group of properties that applications call by name.
type DeviceMethod struct {
	// Name is the name of the method.
	// +optional
	Name string `json:"name,omitempty"`

	// Description is for people.
	// +optional
	Description string `json:"description,omitempty"`

	// PropertyNames are the properties that the method touches.
	// +optional
	PropertyNames []string `json:"propertyNames,omitempty"`
}

// DeviceProperty says how one property of a device is read, written and
// reported.
type DeviceProperty struct {
	// Name is the name of the property in the model.
	// +optional
	Name string `json:"name,omitempty"`

	// Desired is the value that the property should have. It is present in
	// what we encode even when nothing is desired.
	// +optional
	Desired TwinValue `json:"desired"`

	// Visitors say how the mapper gets at the property. They override those of
	// the model, key by key.
	// +optional
	Visitors ProtocolConfig `json:"visitors"`

	// ReportCycle is the time between two reports, in the unit of the mapper.
	// +optional
	ReportCycle int64 `json:"reportCycle,omitempty"`

	// CollectCycle is the time between two reads, in the unit of the mapper.
	// +optional
	CollectCycle int64 `json:"collectCycle,omitempty"`

	// ReportToCloud sends the value to the cloud as well.
	// +optional
	ReportToCloud bool `json:"reportToCloud,omitempty"`

	// PushMethod says where on the edge the mapper pushes values to.
	// +optional
	PushMethod *PushMethod `json:"pushMethod,omitempty"`
}

// TwinValue is a value of a property.
type TwinValue struct {
	// Value is the value as text, whatever the type of the property is.
	Value string `json:"value"`

	// Metadata describes the value: when it was taken, for example.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}
