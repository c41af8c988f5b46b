package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Rule carries messages from one RuleEndpoint to another.
//
// +genclient
// +genclient:noStatus
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Rule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says where messages are picked up and where they are delivered.
	// +optional
	Spec RuleSpec `json:"spec"`

	// Status counts what became of the messages.
	// +optional
	Status RuleStatus `json:"status,omitempty"`
}

// RuleList is a list of Rule objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type RuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the rules.
	Items []Rule `json:"items"`
}

// Keys of RuleSpec.SourceResource and RuleSpec.TargetResource. Which of them
// an endpoint needs depends on its type (spec 07 §1.2).
const (
	// ResourcePath is the HTTP path of a rest source, or the path on the edge
	// application of a servicebus target.
	ResourcePath = "path"
	// ResourceURL is the absolute URL that a rest target is called with.
	ResourceURL = "resource"
	// ResourceTopic is the MQTT topic of an eventbus source or target.
	ResourceTopic = "topic"
	// ResourceNodeName is the edge node of an eventbus or servicebus source.
	ResourceNodeName = "node_name"
	// ResourceTargetURL is the URL that a servicebus source asks for.
	ResourceTargetURL = "target_url"
)

// RuleSpec joins two endpoints.
type RuleSpec struct {
	// Source is the name of the RuleEndpoint that messages come from, in the
	// namespace of the rule.
	Source string `json:"source"`

	// SourceResource selects messages at the source: {"path": …} for rest,
	// {"topic": …, "node_name": …} for eventbus, {"target_url": …,
	// "node_name": …} for servicebus.
	SourceResource map[string]string `json:"sourceResource"`

	// Target is the name of the RuleEndpoint that messages go to, in the
	// namespace of the rule.
	Target string `json:"target"`

	// TargetResource is the address at the target: {"resource": <URL>} for
	// rest, {"topic": …} for eventbus, {"path": …} for servicebus.
	TargetResource map[string]string `json:"targetResource"`
}

// RuleStatus counts the messages of a rule.
type RuleStatus struct {
	// SuccessMessages is how many messages reached their target.
	// +optional
	SuccessMessages int `json:"successMessages"`

	// FailMessages is how many messages did not.
	// +optional
	FailMessages int `json:"failMessages"`

	// Errors are the newest failures, as text.
	// +optional
	Errors []string `json:"errors,omitempty"`
}

// RuleEndpoint is a kind of place that messages come from or go to.
//
// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:resource:shortName=re
type RuleEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec describes the endpoint.
	// +optional
	Spec RuleEndpointSpec `json:"spec"`
}

// RuleEndpointList is a list of RuleEndpoint objects.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type RuleEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the endpoints.
	Items []RuleEndpoint `json:"items"`
}

// RuleEndpointType says what an endpoint is.
//
// +kubebuilder:validation:Enum=rest;eventbus;servicebus
type RuleEndpointType string

const (
	// RuleEndpointTypeREST is an HTTP application in the cloud.
	RuleEndpointTypeREST RuleEndpointType = "rest"
	// RuleEndpointTypeEventBus is the MQTT broker of an edge node.
	RuleEndpointTypeEventBus RuleEndpointType = "eventbus"
	// RuleEndpointTypeServiceBus is an HTTP application on an edge node.
	RuleEndpointTypeServiceBus RuleEndpointType = "servicebus"
)

// PropertyServicePort is the key in RuleEndpointSpec.Properties of the port
// that a servicebus target listens on, as a decimal string.
const PropertyServicePort = "service_port"

// RuleEndpointSpec describes an endpoint.
type RuleEndpointSpec struct {
	// RuleEndpointType is rest, eventbus or servicebus.
	RuleEndpointType RuleEndpointType `json:"ruleEndpointType"`

	// Properties are settings of the endpoint. A servicebus endpoint that is
	// the target of a rule needs {"service_port": "<port>"}.
	// +optional
	Properties map[string]string `json:"properties,omitempty"`
}
