package v1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/apis/operations/v1alpha1"
)

// NodeTaskSpec is what all kinds of jobs have in common.
type NodeTaskSpec struct {
	// NodeNames are the nodes. Either this or labelSelector is set.
	// +optional
	NodeNames []string `json:"nodeNames,omitempty"`

	// LabelSelector selects the nodes. Either this or nodeNames is set.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`

	// TimeoutSeconds bounds the time between two reports of a node. Absent and
	// 0 mean 300.
	// +optional
	TimeoutSeconds *uint32 `json:"timeoutSeconds,omitempty"`

	// Concurrency is how many nodes work at a time. Less than 1 means 1.
	// +optional
	Concurrency int32 `json:"concurrency,omitempty"`

	// FailureTolerate is the share of nodes that may fail, for example "0.1",
	// which is also what empty means.
	// +optional
	FailureTolerate string `json:"failureTolerate,omitempty"`
}

// What a node can check before it starts. A check fails above 80 % use.
const (
	CheckItemCPU    = "cpu"
	CheckItemMemory = "mem"
	CheckItemDisk   = "disk"
)

// JobPhase is how far a job is.
type JobPhase string

// The phases of a job. Empty means that nobody has looked at the job yet.
const (
	// JobPhaseInit is a job whose nodes are selected.
	JobPhaseInit JobPhase = "Init"
	// JobPhaseInProgress is a job with nodes that are not finished.
	JobPhaseInProgress JobPhase = "InProgress"
	// JobPhaseCompleted is a job with no more failed nodes than tolerated.
	JobPhaseCompleted JobPhase = "Completed"
	// JobPhaseFailure is a job with more, or one that could not start.
	JobPhaseFailure JobPhase = "Failure"
)

// NodeTaskPhase is how far one node is.
type NodeTaskPhase string

// The phases of a node.
const (
	// NodeTaskPhasePending is a node that has not been told.
	NodeTaskPhasePending NodeTaskPhase = "Pending"
	// NodeTaskPhaseInProgress is a node that works.
	NodeTaskPhaseInProgress NodeTaskPhase = "InProgress"
	// NodeTaskPhaseSuccessful is a node that reached the goal.
	NodeTaskPhaseSuccessful NodeTaskPhase = "Successful"
	// NodeTaskPhaseFailure is a node that did not.
	NodeTaskPhaseFailure NodeTaskPhase = "Failure"
	// NodeTaskPhaseUnknown is a node that fell silent.
	NodeTaskPhaseUnknown NodeTaskPhase = "Unknown"
)

// Action is a step in the flow of a node. An edge node that is told an action
// it doesn't know crashes, so nothing but these goes on the wire.
type Action string

// The actions. Flows: an upgrade is Check, WaitingConfirmation, BackUp,
// Upgrade; a pre-pull is Check, Pull; a configuration update is Check, BackUp,
// Update. RollBack follows a failed Upgrade or Update.
const (
	ActionCheck               Action = "Check"
	ActionWaitingConfirmation Action = "WaitingConfirmation"
	ActionBackUp              Action = "BackUp"
	ActionUpgrade             Action = "Upgrade"
	ActionRollBack            Action = "RollBack"
	ActionPull                Action = "Pull"
	ActionUpdate              Action = "Update"
)

// ActionStatus is the report of one action.
type ActionStatus struct {
	// Action is the action.
	// +optional
	Action Action `json:"action,omitempty"`

	// Status is "True" after success and "False" after failure.
	// +optional
	Status metav1.ConditionStatus `json:"status,omitempty"`

	// Reason explains a failure.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Time is when the action ended, in RFC 3339 and UTC.
	// +optional
	Time string `json:"time,omitempty"`
}

// NodeTaskStatus is how far one node is, in any kind of job.
type NodeTaskStatus struct {
	// NodeName is the node.
	// +optional
	NodeName string `json:"nodeName,omitempty"`

	// Phase is how far the node is.
	// +optional
	Phase NodeTaskPhase `json:"phase,omitempty"`

	// Reason explains the phase.
	// +optional
	Reason string `json:"reason,omitempty"`

	// ActionFlow are the actions that the node reported, each once.
	// +optional
	ActionFlow []ActionStatus `json:"actionFlow,omitempty"`
}

// LegacyStatus is what v1alpha1 wrote into the status of a job. It is read, to
// tell whether an old job is finished, and never written.
type LegacyStatus struct {
	// State is written by v1alpha1 only.
	// +optional
	State v1alpha1.State `json:"state,omitempty"`

	// Time is written by v1alpha1 only.
	// +optional
	Time string `json:"time,omitempty"`

	// Event is written by v1alpha1 only.
	// +optional
	Event string `json:"event,omitempty"`

	// Action is written by v1alpha1 only.
	// +optional
	Action v1alpha1.Action `json:"action,omitempty"`
}
