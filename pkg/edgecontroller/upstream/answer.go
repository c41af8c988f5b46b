package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// errorForm is how an error is told to the edge.
type errorForm int

const (
	// asText is operation error with a text (spec 04 §3.6): the edge stores nothing and its kubelet tries again.
	asText errorForm = iota
	// asObject is an ObjectResp with a Status (spec 04 §1.2): the kubelet gets the typed error.
	asObject
	// silent requests get no answer, because nothing on the edge waits for one.
	silent
)

// contentOK is the text OK as JSON.
func contentOK() []byte { return message.Text(message.ContentOK) }

// object wraps a whole object as an ObjectResp; the keys are exactly these (spec 04 §1.2).
func object(o any) ([]byte, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode reply: %w", err)
	}
	return wrap(body), nil
}

func wrap(body []byte) []byte {
	const before, after = `{"Object":`, `,"Err":null}`
	out := make([]byte, 0, len(before)+len(body)+len(after))
	out = append(out, before...)
	out = append(out, body...)
	return append(out, after...)
}

// objectError is the ObjectResp of a failure. Object must be an object and never null: the edge dereferences it.
func objectError(s metav1.Status) ([]byte, error) {
	type statusError struct{ ErrStatus metav1.Status }
	return json.Marshal(struct {
		Object struct{}
		Err    statusError
	}{Err: statusError{ErrStatus: s}})
}

// status returns err as a Status that is never empty, because the edge takes an empty one for success. Errors of
// kube-apiserver keep their reason, on which the kubelet branches.
func status(err error) metav1.Status {
	var s metav1.Status
	if api := apierrors.APIStatus(nil); errors.As(err, &api) {
		s = api.Status()
	}
	if s.Code == 0 || s.Reason == "" || s.Status != metav1.StatusFailure {
		message := err.Error()
		switch {
		case s.Code != 0: // an error of a proxy or webhook: its code is all there is
			s.Reason = metav1.StatusReasonUnknown
		case errors.Is(err, context.DeadlineExceeded):
			s.Code, s.Reason = http.StatusGatewayTimeout, metav1.StatusReasonTimeout
		default:
			s.Code, s.Reason = http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable
		}
		s.Status = metav1.StatusFailure
		s.Message = message
	}
	return s
}

// invalid marks an error as the fault of the request.
func invalid(err error) error { return apierrors.NewBadRequest(err.Error()) }

// forbidden says that a node may not have what it asked for. The text is about the request only.
func forbidden(r *request) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: r.path.Type}, r.path.Name, fmt.Errorf("node %q has no relation to it", r.Node))
}

func notFound(resource, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
}

// refuse answers a request with an error.
func (m *Module) refuse(ctx context.Context, r *request, form errorForm, err error) {
	klog.FromContext(ctx).V(2).Info("Request of a node failed", "node", r.Node, "msgID", r.Header.ID,
		"operation", r.Route.Operation, "resource", r.Route.Resource, "err", err)
	switch form {
	case silent:
	case asText:
		m.send(ctx, message.ErrorReply(r.Message, message.ModuleEdge, err.Error()))
	case asObject:
		body, encodeErr := objectError(status(err))
		if encodeErr != nil { // a Status always encodes
			m.send(ctx, message.ErrorReply(r.Message, message.ModuleEdge, err.Error()))
			return
		}
		m.send(ctx, message.Reply(r.Message, message.ModuleEdge, body))
	}
}
