package csisocket

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Volume operations that the driver asks for (spec 02 §4).
const (
	opCreateVolume  = "createvolume"
	opDeleteVolume  = "deletevolume"
	opPublishVolume = "controllerpublishvolume"
	opUnpublish     = "controllerunpublishvolume"
)

func operations() []string {
	return []string{opCreateVolume, opDeleteVolume, opPublishVolume, opUnpublish}
}

const maxID = 253 // of a message or a volume

// volumePart is what the hub recognises in the resource of an answer (spec 03 §4.1).
var volumePart = regexp.MustCompile(`^\w[-\w.+]*$`)

// errSilent means that the peer went away, or said nothing at all in time.
var errSilent = errors.New("no request")

// request is what the driver asks. After a failed read it holds what could be understood.
type request struct {
	msg       *message.Message
	node      string
	namespace string
	volume    string
}

// readRequest reads until one JSON value is complete; the driver keeps the connection open for its answer. The request
// is never nil but with errSilent.
func readRequest(r io.Reader, limit int64) (*request, error) {
	bounded := &io.LimitedReader{R: r, N: limit}
	var raw json.RawMessage
	if err := json.NewDecoder(bounded).Decode(&raw); err != nil {
		var syntax *json.SyntaxError
		switch {
		case bounded.N <= 0:
			return &request{msg: new(message.Message)}, fmt.Errorf("request is larger than %d bytes", limit)
		case bounded.N == limit:
			return nil, fmt.Errorf("%w: %w", errSilent, err)
		case errors.As(err, &syntax):
			return &request{msg: new(message.Message)}, fmt.Errorf("request is not JSON: %w", err)
		default:
			return &request{msg: new(message.Message)}, fmt.Errorf("request is not complete: %w", err)
		}
	}
	msg, err := message.Decode(raw)
	if err != nil {
		return &request{msg: new(message.Message)}, fmt.Errorf("request is not a message: %w", err)
	}
	q := &request{msg: msg}
	return q, q.parse()
}

// parse checks everything that goes into the message for the node.
func (q *request) parse() error {
	if id := q.msg.Header.ID; id == "" || len(id) > maxID {
		return fmt.Errorf("msg_id has %d characters, want 1 to %d", len(id), maxID)
	}
	if operationLabel(q) == otherOperation {
		return fmt.Errorf("%.64q is not a volume operation", q.msg.Route.Operation)
	}
	parts := strings.Split(q.msg.Route.Resource, "/")
	if len(parts) != 5 || parts[0] != message.TypeNode || parts[3] != message.TypeVolume {
		return fmt.Errorf("resource %.256q is not node/<node>/<namespace>/volume/<volume>", q.msg.Route.Resource)
	}
	q.node, q.namespace, q.volume = parts[1], parts[2], parts[4]
	switch {
	case len(validation.IsDNS1123Subdomain(q.node)) != 0:
		return fmt.Errorf("%.64q is not a node name", q.node)
	case len(validation.IsDNS1123Label(q.namespace)) != 0:
		return fmt.Errorf("%.64q is not a namespace", q.namespace)
	case len(q.volume) > maxID || !volumePart.MatchString(q.volume):
		return fmt.Errorf("%.64q is not a volume id", q.volume)
	case len(q.msg.Content) == 0:
		return errors.New("request has no content")
	}
	return nil
}

// downstream is the message for the node: the id of the driver's request, so that the node's answer answers it, the
// resource without the node, and sync never set (spec 02 §1.4).
func (q *request) downstream() *message.Message {
	return &message.Message{
		Header: message.Header{ID: q.msg.Header.ID, Timestamp: time.Now().UnixMilli()},
		Route: message.Route{
			Source:    message.ModuleHub,
			Group:     message.GroupResource,
			Operation: q.msg.Route.Operation,
			Resource:  message.Resource{Namespace: q.namespace, Type: message.TypeVolume, Name: q.volume}.String(),
		},
		Content: q.msg.Content,
		Node:    q.node,
	}
}
