package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Nothing on the edge waits for the answer to an event, so there is none (spec 04 §2 rows 22 to 24). The namespace is
// that of the event itself. Events are cloudcore's own calls: a node identity may lack the right (spec 04 §3.9).

// eventPatch is the content of an event patch (spec 04 §2.1).
type eventPatch struct {
	Event     *corev1.Event `json:"event"`
	PatchData string        `json:"patchData"`
}

func (m *Module) insertEvent(ctx context.Context, r *request) (reply, error) {
	event, err := m.ownEvent(r)
	if err != nil {
		return reply{}, err
	}
	return reply{}, m.createEvent(ctx, event)
}

func (m *Module) updateEvent(ctx context.Context, r *request) (reply, error) {
	event, err := m.ownEvent(r)
	if err != nil {
		return reply{}, err
	}
	_, err = m.client.CoreV1().Events(event.Namespace).Update(ctx, event, metav1.UpdateOptions{})
	return reply{}, m.again(ctx, event, err)
}

func (m *Module) patchEvent(ctx context.Context, r *request) (reply, error) {
	var patch eventPatch
	if err := r.DecodeContent(&patch); err != nil {
		return reply{}, invalid(fmt.Errorf("event patch: %w", err))
	}
	if patch.Event == nil {
		return reply{}, invalid(fmt.Errorf("event patch without an event"))
	}
	if err := m.admitEvent(r, patch.Event); err != nil {
		return reply{}, err
	}
	_, err := m.client.CoreV1().Events(patch.Event.Namespace).Patch(ctx, patch.Event.Name, types.StrategicMergePatchType,
		[]byte(patch.PatchData), metav1.PatchOptions{})
	return reply{}, m.again(ctx, patch.Event, err)
}

func (m *Module) createEvent(ctx context.Context, event *corev1.Event) error {
	event.ResourceVersion, event.UID = "", ""
	_, err := m.client.CoreV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{})
	return err
}

// again creates an event that was to be changed and has expired meanwhile, if the edge sent all of it. The recorder on
// the edge, which would do so, does not learn of it.
func (m *Module) again(ctx context.Context, event *corev1.Event, err error) error {
	if !apierrors.IsNotFound(err) || event.InvolvedObject.Kind == "" {
		return err
	}
	return m.createEvent(ctx, event)
}

func (m *Module) ownEvent(r *request) (*corev1.Event, error) {
	event := &corev1.Event{}
	if err := r.DecodeContent(event); err != nil {
		return nil, invalid(fmt.Errorf("event: %w", err))
	}
	return event, m.admitEvent(r, event)
}

// admitEvent checks that an event comes from a component on the node itself, and not too often.
func (m *Module) admitEvent(r *request, e *corev1.Event) error {
	for _, token := range []string{e.Namespace, e.Name} {
		if token == "" || len(content.IsPathSegmentName(token)) > 0 {
			return invalid(fmt.Errorf("event %q in namespace %q is not named well", e.Name, e.Namespace))
		}
	}
	if e.Source.Host != "" && e.Source.Host != r.Node {
		return forbidden(r)
	}
	if e.InvolvedObject.Kind == "Node" && e.InvolvedObject.Name != r.Node {
		return forbidden(r)
	}
	if !m.events.allow(r.Node, time.Now()) {
		return apierrors.NewTooManyRequestsError("events of the node exceed their rate")
	}
	return nil
}

// maxEventNodes bounds the table of limiters; when it is full it starts anew.
const maxEventNodes = 20_000

// eventLimits is one token bucket for each node that sends events.
type eventLimits struct {
	rate  rate.Limit
	burst int

	mu    sync.Mutex // guards nodes
	nodes map[string]*rate.Limiter
}

func newEventLimits(perSecond, burst int) *eventLimits {
	return &eventLimits{rate: rate.Limit(perSecond), burst: burst, nodes: map[string]*rate.Limiter{}}
}

func (l *eventLimits) allow(node string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.nodes[node]
	if limiter == nil {
		if len(l.nodes) >= maxEventNodes {
			clear(l.nodes)
		}
		limiter = rate.NewLimiter(l.rate, l.burst)
		l.nodes[node] = limiter
	}
	return limiter.AllowN(now, 1)
}
