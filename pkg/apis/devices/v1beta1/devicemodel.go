package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeviceModel is a kind of device.
//
// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:storageversion
type DeviceModel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec describes the kind of device.
	// +optional
	Spec DeviceModelSpec `json:"spec,omitempty"`
}

// DeviceModelList is a list of DeviceModel objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type DeviceModelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the models.
	Items []DeviceModel `json:"items"`
}

// DeviceModelSpec describes a kind of device.
type DeviceModelSpec struct {
	// Properties are what a device of this kind has. Names should be unique.
	// +optional
	Properties []ModelProperty `json:"properties,omitempty"`

	// Protocol is the name of the protocol. It selects the mapper that is told
	// of the model.
	// +optional
	Protocol string `json:"protocol,omitempty"`

	// ProtocolConfigData are the defaults of the protocol settings of a
	// device.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ProtocolConfigData *runtime.RawExtension `json:"protocolConfigData,omitempty"`
}

// ModelProperty is one property of a kind of device.
type ModelProperty struct {
	// Name is the name of the property.
	// +optional
	Name string `json:"name,omitempty"`

	// Description is for people.
	// +optional
	Description string `json:"description,omitempty"`

	// Type is the type of the value.
	// +optional
	Type PropertyType `json:"type,omitempty"`

	// AccessMode says whether the property can be written.
	// +optional
	AccessMode PropertyAccessMode `json:"accessMode,omitempty"`

	// Minimum is the smallest value, as text.
	// +optional
	Minimum string `json:"minimum,omitempty"`

	// Maximum is the largest value, as text.
	// +optional
	Maximum string `json:"maximum,omitempty"`

	// Unit is the unit of the value.
	// +optional
	Unit string `json:"unit,omitempty"`

	// Visitors are the defaults of how a mapper gets at the property.
	// +optional
	Visitors *ProtocolConfig `json:"visitors,omitempty"`
}

// PropertyType is the type of the values of a property.
//
// +kubebuilder:validation:Enum=INT;FLOAT;DOUBLE;STRING;BOOLEAN;BYTES;STREAM
type PropertyType string

// The types that a property can have.
const (
	PropertyTypeInt     PropertyType = "INT"
	PropertyTypeFloat   PropertyType = "FLOAT"
	PropertyTypeDouble  PropertyType = "DOUBLE"
	PropertyTypeString  PropertyType = "STRING"
	PropertyTypeBoolean PropertyType = "BOOLEAN"
	PropertyTypeBytes   PropertyType = "BYTES"
	PropertyTypeStream  PropertyType = "STREAM"
)

// PropertyAccessMode says whether a property can be written.
//
// +kubebuilder:validation:Enum=ReadWrite;ReadOnly
type PropertyAccessMode string

// The access modes of a property.
const (
	PropertyReadWrite PropertyAccessMode = "ReadWrite"
	PropertyReadOnly  PropertyAccessMode = "ReadOnly"
)
