package v1alpha2

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Device is one device, reached through one edge node.
type Device struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec describes the device.
	// +optional
	Spec DeviceSpec `json:"spec,omitempty"`

	// Status is what was reported.
	// +optional
	Status DeviceTwins `json:"status,omitempty"`
}

// DeviceStatus is a report that stands for itself.
type DeviceStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	DeviceTwins `json:",inline"`
}

// DeviceTwins are the values of the properties of a device.
type DeviceTwins struct {
	// Twins are the values, one entry a property.
	// +optional
	Twins []Twin `json:"twins,omitempty"`
}

// Twin is the wanted and the actual value of one property.
type Twin struct {
	// PropertyName is the name of the property in the model.
	// +optional
	PropertyName string `json:"propertyName,omitempty"`

	// Desired is the value that the property should have.
	// +optional
	Desired *TwinValue `json:"desired,omitempty"`

	// Reported is the value that the property has.
	// +optional
	Reported *TwinValue `json:"reported,omitempty"`
}

// TwinValue is a value of a property.
type TwinValue struct {
	// Value is the value as text.
	Value string `json:"value"`

	// Metadata describes the value.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}

// DeviceSpec describes a device.
type DeviceSpec struct {
	// DeviceModelRef names the DeviceModel, in the namespace of the device.
	// +optional
	DeviceModelRef *corev1.LocalObjectReference `json:"deviceModelRef,omitempty"`

	// Protocol is how the device is reached.
	// +optional
	Protocol ProtocolConfig `json:"protocol,omitempty"`

	// PropertyVisitors say how a mapper gets at each property.
	// +optional
	PropertyVisitors []PropertyVisitor `json:"propertyVisitors,omitempty"`

	// Data are properties that go to applications on the edge only.
	// +optional
	Data DeviceData `json:"data,omitempty"`

	// NodeSelector selects the edge node by name.
	// +optional
	NodeSelector *corev1.NodeSelector `json:"nodeSelector,omitempty"`
}

// DeviceData are properties that go to applications on the edge only.
type DeviceData struct {
	// DataProperties are the properties.
	// +optional
	DataProperties []DataProperty `json:"dataProperties,omitempty"`

	// DataTopic is the MQTT topic that they are published to.
	// +optional
	DataTopic string `json:"dataTopic,omitempty"`
}

// DataProperty is a property that goes to applications on the edge only.
type DataProperty struct {
	// PropertyName is the name of the property in the model.
	// +optional
	PropertyName string `json:"propertyName,omitempty"`

	// Metadata describes the property.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}

// ProtocolConfig is how a device is reached; one of the protocols is set.
type ProtocolConfig struct {
	// OPCUA reaches the device over OPC UA.
	// +optional
	OPCUA *ProtocolOPCUA `json:"opcua,omitempty"`

	// Modbus reaches the device over Modbus.
	// +optional
	Modbus *ProtocolModbus `json:"modbus,omitempty"`

	// Bluetooth reaches the device over Bluetooth.
	// +optional
	Bluetooth *ProtocolBluetooth `json:"bluetooth,omitempty"`

	// Common are settings that hold for every protocol.
	// +optional
	Common *ProtocolCommon `json:"common,omitempty"`

	// CustomizedProtocol reaches the device over a protocol of the user.
	// +optional
	CustomizedProtocol *CustomProtocol `json:"customizedProtocol,omitempty"`
}

// ProtocolOPCUA is an OPC UA server.
type ProtocolOPCUA struct {
	// URL is the URL of the server.
	// +optional
	URL string `json:"url,omitempty"`

	// UserName is the user to log in as.
	// +optional
	UserName string `json:"userName,omitempty"`

	// Password is the password to log in with.
	// +optional
	Password string `json:"password,omitempty"`

	// SecurityPolicy is the policy of the session.
	// +optional
	SecurityPolicy string `json:"securityPolicy,omitempty"`

	// SecurityMode is the mode of the session.
	// +optional
	SecurityMode string `json:"securityMode,omitempty"`

	// Certificate is the client certificate.
	// +optional
	Certificate string `json:"certificate,omitempty"`

	// PrivateKey is the key of the certificate.
	// +optional
	PrivateKey string `json:"privateKey,omitempty"`

	// Timeout bounds a request.
	// +optional
	Timeout int64 `json:"timeout,omitempty"`
}

// ProtocolModbus is a Modbus slave.
type ProtocolModbus struct {
	// SlaveID is the address of the slave.
	// +optional
	SlaveID *int64 `json:"slaveID,omitempty"`
}

// ProtocolBluetooth is a Bluetooth device.
type ProtocolBluetooth struct {
	// MACAddress is the address of the device.
	// +optional
	MACAddress string `json:"macAddress,omitempty"`
}

// ProtocolCommon are settings that hold for every protocol.
type ProtocolCommon struct {
	// COM is the serial line, if there is one.
	// +optional
	COM *ProtocolCOM `json:"com,omitempty"`

	// TCP is the network address, if there is one.
	// +optional
	TCP *ProtocolTCP `json:"tcp,omitempty"`

	// CommType is the kind of the connection.
	// +optional
	CommType string `json:"commType,omitempty"`

	// ReconnTimeout bounds an attempt to connect again.
	// +optional
	ReconnTimeout int64 `json:"reconnTimeout,omitempty"`

	// ReconnRetryTimes is the number of such attempts.
	// +optional
	ReconnRetryTimes int64 `json:"reconnRetryTimes,omitempty"`

	// CollectTimeout bounds an attempt to read.
	// +optional
	CollectTimeout int64 `json:"collectTimeout,omitempty"`

	// CollectRetryTimes is the number of such attempts.
	// +optional
	CollectRetryTimes int64 `json:"collectRetryTimes,omitempty"`

	// CollectType says whether a read is waited for.
	// +optional
	// +kubebuilder:validation:Enum=sync;async
	CollectType string `json:"collectType,omitempty"`

	// CustomizedValues are settings that only the mapper understands.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	CustomizedValues *runtime.RawExtension `json:"customizedValues,omitempty"`
}

// ProtocolTCP is a network address.
type ProtocolTCP struct {
	// IP is the address.
	// +optional
	IP string `json:"ip,omitempty"`

	// Port is the port.
	// +optional
	Port int64 `json:"port,omitempty"`
}

// ProtocolCOM is a serial line.
type ProtocolCOM struct {
	// SerialPort is the name of the line.
	// +optional
	SerialPort string `json:"serialPort,omitempty"`

	// BaudRate is the speed of the line.
	// +optional
	// +kubebuilder:validation:Enum=115200;57600;38400;19200;9600;4800;2400;1800;1200;600;300;200;150;134;110;75;50
	BaudRate int64 `json:"baudRate,omitempty"`

	// DataBits is the number of data bits.
	// +optional
	// +kubebuilder:validation:Enum=8;7;6;5
	DataBits int64 `json:"dataBits,omitempty"`

	// Parity is the parity bit.
	// +optional
	// +kubebuilder:validation:Enum=none;even;odd
	Parity string `json:"parity,omitempty"`

	// StopBits is the number of stop bits.
	// +optional
	// +kubebuilder:validation:Enum=1;2
	StopBits int64 `json:"stopBits,omitempty"`
}

// CustomProtocol holds the settings of a protocol of the user.
type CustomProtocol struct {
	// ProtocolName is the name of the protocol.
	// +optional
	ProtocolName string `json:"protocolName,omitempty"`

	// ConfigData are settings that only the mapper understands.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ConfigData *runtime.RawExtension `json:"configData,omitempty"`
}
