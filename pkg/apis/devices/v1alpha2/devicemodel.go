package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DeviceModel is a kind of device.
type DeviceModel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec describes the kind of device.
	// +optional
	Spec DeviceModelSpec `json:"spec,omitempty"`
}

// DeviceModelSpec describes a kind of device.
type DeviceModelSpec struct {
	// Protocol is the name of the protocol.
	// +optional
	Protocol string `json:"protocol,omitempty"`

	// Properties are what a device of this kind has.
	// +optional
	Properties []ModelProperty `json:"properties,omitempty"`
}

// ModelProperty is one property of a kind of device.
type ModelProperty struct {
	// Name is the name of the property.
	// +optional
	Name string `json:"name,omitempty"`

	// Description is for people.
	// +optional
	Description string `json:"description,omitempty"`

	// Type is the type of the value, with its limits.
	// +optional
	Type PropertyType `json:"type,omitempty"`
}

// PropertyType is the type of a value; one of the fields is set.
type PropertyType struct {
	// Int is a whole number.
	// +optional
	Int *TypeInt `json:"int,omitempty"`

	// String is text.
	// +optional
	String *TypeString `json:"string,omitempty"`

	// Double is a number of double precision.
	// +optional
	Double *TypeDouble `json:"double,omitempty"`

	// Float is a number of single precision.
	// +optional
	Float *TypeFloat `json:"float,omitempty"`

	// Boolean is true or false.
	// +optional
	Boolean *TypeBoolean `json:"boolean,omitempty"`

	// Bytes is binary data.
	// +optional
	Bytes *TypeBytes `json:"bytes,omitempty"`
}

// AccessMode says whether a property can be written.
//
// +kubebuilder:validation:Enum=ReadWrite;ReadOnly
type AccessMode string

// TypeInt is a whole number.
type TypeInt struct {
	// AccessMode says whether the property can be written.
	// +optional
	AccessMode AccessMode `json:"accessMode,omitempty"`

	// DefaultValue is the value until one is read.
	// +optional
	DefaultValue int64 `json:"defaultValue,omitempty"`

	// Minimum is the smallest value.
	// +optional
	Minimum int64 `json:"minimum,omitempty"`

	// Maximum is the largest value.
	// +optional
	Maximum int64 `json:"maximum,omitempty"`

	// Unit is the unit of the value.
	// +optional
	Unit string `json:"unit,omitempty"`
}

// TypeString is text.
type TypeString struct {
	// AccessMode says whether the property can be written.
	// +optional
	AccessMode AccessMode `json:"accessMode,omitempty"`

	// DefaultValue is the value until one is read.
	// +optional
	DefaultValue string `json:"defaultValue,omitempty"`
}

// TypeDouble is a number of double precision.
type TypeDouble struct {
	// AccessMode says whether the property can be written.
	// +optional
	AccessMode AccessMode `json:"accessMode,omitempty"`

	// DefaultValue is the value until one is read.
	// +optional
	DefaultValue float64 `json:"defaultValue,omitempty"`

	// Minimum is the smallest value.
	// +optional
	Minimum float64 `json:"minimum,omitempty"`

	// Maximum is the largest value.
	// +optional
	Maximum float64 `json:"maximum,omitempty"`

	// Unit is the unit of the value.
	// +optional
	Unit string `json:"unit,omitempty"`
}

// TypeFloat is a number of single precision.
type TypeFloat struct {
	// AccessMode says whether the property can be written.
	// +optional
	AccessMode AccessMode `json:"accessMode,omitempty"`

	// DefaultValue is the value until one is read.
	// +optional
	DefaultValue float32 `json:"defaultValue,omitempty"`

	// Minimum is the smallest value.
	// +optional
	Minimum float32 `json:"minimum,omitempty"`

	// Maximum is the largest value.
	// +optional
	Maximum float32 `json:"maximum,omitempty"`

	// Unit is the unit of the value.
	// +optional
	Unit string `json:"unit,omitempty"`
}

// TypeBoolean is true or false.
type TypeBoolean struct {
	// AccessMode says whether the property can be written.
	// +optional
	AccessMode AccessMode `json:"accessMode,omitempty"`

	// DefaultValue is the value until one is read.
	// +optional
	DefaultValue bool `json:"defaultValue,omitempty"`
}

// TypeBytes is binary data.
type TypeBytes struct {
	// AccessMode says whether the property can be written.
	// +optional
	AccessMode AccessMode `json:"accessMode,omitempty"`
}
