package v1alpha2

import "k8s.io/apimachinery/pkg/runtime"

// PropertyVisitor says how a mapper gets at one property; one of the protocols
// is set.
type PropertyVisitor struct {
	// PropertyName is the name of the property in the model.
	// +optional
	PropertyName string `json:"propertyName,omitempty"`

	// ReportCycle is the time between two reports.
	// +optional
	ReportCycle int64 `json:"reportCycle,omitempty"`

	// CollectCycle is the time between two reads.
	// +optional
	CollectCycle int64 `json:"collectCycle,omitempty"`

	// CustomizedValues are settings that only the mapper understands.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	CustomizedValues *runtime.RawExtension `json:"customizedValues,omitempty"`

	// OPCUA reads over OPC UA.
	// +optional
	OPCUA *VisitorOPCUA `json:"opcua,omitempty"`

	// Modbus reads over Modbus.
	// +optional
	Modbus *VisitorModbus `json:"modbus,omitempty"`

	// Bluetooth reads over Bluetooth.
	// +optional
	Bluetooth *VisitorBluetooth `json:"bluetooth,omitempty"`

	// CustomizedProtocol reads over a protocol of the user.
	// +optional
	CustomizedProtocol *CustomProtocol `json:"customizedProtocol,omitempty"`
}

// VisitorOPCUA is a node of an OPC UA server.
type VisitorOPCUA struct {
	// NodeID is the identifier of the node.
	// +optional
	NodeID string `json:"nodeID,omitempty"`

	// BrowseName is the name of the node.
	// +optional
	BrowseName string `json:"browseName,omitempty"`
}

// VisitorModbus is a register of a Modbus slave.
type VisitorModbus struct {
	// Register is the kind of register.
	// +optional
	// +kubebuilder:validation:Enum=CoilRegister;DiscreteInputRegister;InputRegister;HoldingRegister
	Register string `json:"register,omitempty"`

	// Offset is the first register.
	// +optional
	Offset *int64 `json:"offset,omitempty"`

	// Limit is the number of registers.
	// +optional
	Limit *int64 `json:"limit,omitempty"`

	// Scale is what the raw value is multiplied with.
	// +optional
	Scale float64 `json:"scale,omitempty"`

	// IsSwap swaps the bytes of a register.
	// +optional
	IsSwap bool `json:"isSwap,omitempty"`

	// IsRegisterSwap swaps the registers.
	// +optional
	IsRegisterSwap bool `json:"isRegisterSwap,omitempty"`
}

// VisitorBluetooth is a characteristic of a Bluetooth device.
type VisitorBluetooth struct {
	// CharacteristicUUID identifies the characteristic.
	// +optional
	CharacteristicUUID string `json:"characteristicUUID,omitempty"`

	// DataWrite maps values to the bytes that are written for them.
	// +optional
	DataWrite map[string][]byte `json:"dataWrite,omitempty"`

	// DataConverter turns the bytes that are read into a value.
	// +optional
	DataConverter BluetoothConverter `json:"dataConverter,omitempty"`
}

// BluetoothConverter turns bytes into a value.
type BluetoothConverter struct {
	// StartIndex is the first byte.
	// +optional
	StartIndex int `json:"startIndex,omitempty"`

	// EndIndex is the last byte.
	// +optional
	EndIndex int `json:"endIndex,omitempty"`

	// ShiftLeft is a number of bits.
	// +optional
	ShiftLeft uint `json:"shiftLeft,omitempty"`

	// ShiftRight is a number of bits.
	// +optional
	ShiftRight uint `json:"shiftRight,omitempty"`

	// OrderOfOperations are applied to the value one after the other.
	// +optional
	OrderOfOperations []BluetoothOperation `json:"orderOfOperations,omitempty"`
}

// BluetoothOperation is one step of arithmetic.
type BluetoothOperation struct {
	// OperationType is Add, Subtract, Multiply or Divide. The schema doesn't
	// enforce it.
	// +optional
	OperationType string `json:"operationType,omitempty"`

	// OperationValue is the second operand.
	// +optional
	OperationValue float64 `json:"operationValue,omitempty"`
}
