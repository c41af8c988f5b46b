package v1alpha1

// State is a stage of a job, or of one node in it.
type State string

// The stages of a job. A node upgrade runs through Checking, BackingUp and
// Upgrading, an image pre-pull through Checking and Pulling.
const (
	StateInit        State = "Init"
	StateChecking    State = "Checking"
	StateBackingUp   State = "BackingUp"
	StateUpgrading   State = "Upgrading"
	StateRollingBack State = "RollingBack"
	StatePulling     State = "Pulling"
	StatePause       State = "Pause"
	StateSuccessful  State = "Successful"
	StateFailed      State = "Failed"
)

// Action is how an event ended.
type Action string

// The ends that an event can have.
const (
	ActionSuccess      Action = "Success"
	ActionFailure      Action = "Failure"
	ActionConfirmation Action = "Confirmation"
)

// What a node reports the end of.
const (
	EventInit     = "Init"
	EventCheck    = "Check"
	EventBackup   = "Backup"
	EventUpgrade  = "Upgrade"
	EventRollback = "Rollback"
	EventPull     = "Pull"
	EventConfirm  = "Confirm"
	EventTimeOut  = "TimeOut"
)

// TaskStatus is how far one node is.
type TaskStatus struct {
	// NodeName is the node.
	// +optional
	NodeName string `json:"nodeName,omitempty"`

	// State is the stage of the node.
	// +optional
	State State `json:"state,omitempty"`

	// Event is what happened last.
	// +optional
	Event string `json:"event,omitempty"`

	// Action is how that ended.
	// +optional
	Action Action `json:"action,omitempty"`

	// Reason explains a failure.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Time is when it happened.
	// +optional
	Time string `json:"time,omitempty"`
}
