// Package v1beta1 holds the devices behind edge nodes: devices.kubeedge.io/v1beta1
// Device, DeviceModel and DeviceStatus.
//
// A DeviceModel lists the properties of a kind of device. A Device is one of
// that kind, says how to reach it, and names the edge node that does; the node
// gets both objects and hands them to the mapper of the protocol. What the
// node reports is in the DeviceStatus of the same namespace and name, which
// the Device owns. There are no status subresources.
//
// Nearly everything is optional for the apiserver, also the model reference
// (spec 05 §1): code that reads these objects must not rely on more than the
// schema says.
//
// Free-form settings of mappers are kept as raw JSON: the cloud side passes
// them on without a look inside.
//
// +k8s:deepcopy-gen=package
// +groupName=devices.kubeedge.io
package v1beta1
