package upstream

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// request is one message on its way through the module.
type request struct {
	*message.Message
	path message.Resource
	// hold defers pushes of the object that the request changes, or nil.
	hold desired.Hold
	// after are called when the request was answered.
	after []func()
}

// reply is the answer of a handler. Without content nothing is sent.
type reply struct {
	content []byte
	version string // for header.resourceversion
	path    string // other than that of the request; legacy forms need it
	// stored is the identity of the object in content, if the edge takes it into its database in place of a push.
	stored stored
}

type stored struct{ uid, version string }

// defers keeps pushes of an object away until the request is answered: the edge stores the object in the reply without
// looking at versions, so that nothing newer may come before it (spec 04 §4.3).
func (m *Module) defers(r *request, key desired.Key) {
	r.hold = m.delivery.Hold(r.Node, key)
}

// then calls f once the request was answered.
func (r *request) then(f func()) { r.after = append(r.after, f) }

// serve handles one message and answers it.
func (m *Module) serve(ctx context.Context, msg *message.Message) {
	begun := time.Now()
	r := &request{Message: msg}
	switch {
	case msg.Route.Operation == message.OpResponse || msg.Route.Operation == message.OpError || msg.Header.ParentID != "":
		m.metrics.stray.Inc() // an answer that nobody waits for; answering it could go on for ever
		return
	case msg.Header.ID == "":
		m.metrics.stray.Inc() // an answer could not be matched, and would be taken for a push
		return
	}
	kind, route, err := m.find(r)
	if err != nil {
		m.metrics.unknown.Inc()
		m.refuse(ctx, r, asText, err)
		return
	}
	var answer reply
	if age := begun.Sub(time.UnixMilli(msg.Header.Timestamp)); age > m.cfg.MaxAge && !route.late {
		err = apierrors.NewTimeoutError(fmt.Sprintf("request waited %s", age.Round(time.Second)), 0)
	} else {
		answer, err = m.call(ctx, route, r)
	}
	sent := false
	if err != nil {
		m.refuse(ctx, r, route.refuse, err)
		answer.stored = stored{}
	} else {
		sent = m.answer(ctx, r, answer)
	}
	if r.hold != nil {
		if !sent {
			answer.stored = stored{}
		}
		r.hold.Release(answer.stored.uid, answer.stored.version)
	}
	for _, f := range r.after {
		f()
	}
	m.metrics.handled(kind, err, time.Since(begun))
}

// find parses the path and finds the route of a request.
func (m *Module) find(r *request) (verb, route, error) {
	var err error
	if r.path, err = message.ParseResource(r.Route.Resource); err != nil {
		return verb{}, route{}, invalid(err)
	}
	kind := verb{r.path.Type, r.Route.Operation}
	found, ok := m.table[kind]
	if !ok {
		return verb{}, route{}, invalid(fmt.Errorf("no handler for operation %q of %q", kind.op, kind.typ))
	}
	if r.path.Name == "" && !found.list {
		return verb{}, route{}, invalid(fmt.Errorf("path %q names no object", r.Route.Resource))
	}
	for _, token := range []string{r.path.Namespace, r.path.Name} {
		if problems := content.IsPathSegmentName(token); len(problems) > 0 {
			return verb{}, route{}, invalid(fmt.Errorf("path %q: %s", r.Route.Resource, strings.Join(problems, ", ")))
		}
	}
	return kind, found, nil
}

var errPanic = errors.New("the request could not be handled")

// call runs the handler. A panic ends the request, not the process.
func (m *Module) call(ctx context.Context, route route, r *request) (answer reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			klog.FromContext(ctx).Error(fmt.Errorf("panic: %v", p), "Handling a request panicked", "node", r.Node,
				"msgID", r.Header.ID, "operation", r.Route.Operation, "resource", r.Route.Resource, "stack", string(debug.Stack()))
			answer, err = reply{}, apierrors.NewInternalError(errPanic)
		}
	}()
	return route.handle(ctx, r)
}

// as returns a context for calls that are made in the name of the node, if the process impersonates nodes. Other calls
// are cloudcore's own (spec 04 §3.9).
func (m *Module) as(ctx context.Context, r *request) context.Context {
	if m.cfg.OnBehalfOf == nil {
		return ctx
	}
	return m.cfg.OnBehalfOf(ctx, r.Node)
}

// answer sends the answer of a handler and reports whether the session took it.
func (m *Module) answer(ctx context.Context, r *request, a reply) bool {
	if a.content == nil {
		return false
	}
	out := message.Reply(r.Message, message.ModuleEdge, a.content)
	out.Header.ResourceVersion = a.version
	if a.path != "" {
		out.Route.Resource = a.path
	}
	return m.send(ctx, out)
}

func (m *Module) send(ctx context.Context, out *message.Message) bool {
	if err := m.bus.Send(ctx, message.ModuleHub, out); err != nil {
		klog.FromContext(ctx).V(4).Info("Message not sent", "node", out.Node, "msgID", out.Header.ID, "parentID", out.Header.ParentID, "err", err)
		return false
	}
	return true
}
