package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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

// kubeObject is a pointer to an object of a Kubernetes API.
type kubeObject interface {
	metav1.Object
	SetGroupVersionKind(schema.GroupVersionKind)
}

// complete sets what typed clients leave out, and what the edge needs to store an object, and drops what it doesn't
// need.
func complete(o kubeObject, kind schema.GroupVersionKind) {
	o.SetGroupVersionKind(kind)
	o.SetManagedFields(nil)
}

// object is a reply with a whole object as an ObjectResp (spec 04 §1.2). The keys are exactly these, and both are
// needed.
func object(o kubeObject, kind schema.GroupVersionKind) (reply, error) {
	complete(o, kind)
	content, err := json.Marshal(struct {
		Object any
		Err    *struct{}
	}{Object: o})
	if err != nil {
		return reply{}, fmt.Errorf("encode reply: %w", err)
	}
	return reply{content: content, stored: stored{string(o.GetUID()), o.GetResourceVersion()}}, nil
}

// bare is a reply of the object alone, as queries get it.
func bare(o kubeObject, kind schema.GroupVersionKind) (reply, error) {
	complete(o, kind)
	content, err := json.Marshal(o)
	if err != nil {
		return reply{}, fmt.Errorf("encode reply: %w", err)
	}
	return reply{content: content, version: o.GetResourceVersion()}, nil
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
	s := metav1.Status{}
	var timeout net.Error
	switch api := apierrors.APIStatus(nil); {
	case errors.As(err, &api):
		s = api.Status()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		s.Code, s.Reason, s.Message = http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "kube-apiserver did not answer in time"
	default:
		s.Code, s.Reason, s.Message = http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "kube-apiserver cannot be reached"
	}
	s.Status = metav1.StatusFailure
	if s.Code == 0 {
		s.Code = http.StatusInternalServerError
	}
	if s.Reason == "" { // the answer of a proxy or a webhook
		s.Reason = metav1.StatusReasonInternalError
	}
	if s.Message == "" {
		s.Message = cmp.Or(err.Error(), "kube-apiserver answered with an error that has no text")
	}
	return s
}

// invalid marks an error as the fault of the request.
func invalid(err error) error { return apierrors.NewBadRequest(err.Error()) }

// forbidden says that a node may not do what it asked for. The text is about the request only.
func forbidden(r *request) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: r.path.Type}, r.path.Name, fmt.Errorf("node %q has no relation to it", r.Node))
}

// refuse answers a request with an error.
func (m *Module) refuse(ctx context.Context, r *request, form errorForm, err error) {
	klog.FromContext(ctx).V(2).Info("Request of a node failed", "node", r.Node, "msgID", r.Header.ID,
		"operation", r.Route.Operation, "resource", r.Route.Resource, "err", err)
	if form == silent {
		return
	}
	s := status(err)
	if form == asObject {
		if body, err := objectError(s); err == nil { // a Status always encodes
			m.send(ctx, message.Reply(r.Message, message.ModuleEdge, body))
			return
		}
	}
	m.send(ctx, message.ErrorReply(r.Message, message.ModuleEdge, s.Message))
}
