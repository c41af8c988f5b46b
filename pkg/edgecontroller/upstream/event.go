package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Nothing on the edge waits for the answer to an event, so there is none (spec 04 §2 rows 22 to 24). The namespace is
// that of the event itself.

func (m *Module) insertEvent(ctx context.Context, r *request) (reply, error) {
	event, err := m.ownEvent(r)
	if err != nil {
		return reply{}, err
	}
	event.ResourceVersion = ""
	_, err = m.client.CoreV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{})
	return reply{}, err
}

func (m *Module) updateEvent(ctx context.Context, r *request) (reply, error) {
	event, err := m.ownEvent(r)
	if err != nil {
		return reply{}, err
	}
	_, err = m.client.CoreV1().Events(event.Namespace).Update(ctx, event, metav1.UpdateOptions{})
	return reply{}, err
}

func (m *Module) patchEvent(ctx context.Context, r *request) (reply, error) {
	var patch struct {
		Event     corev1.Event `json:"event"`
		PatchData string       `json:"patchData"`
	}
	if err := r.DecodeContent(&patch); err != nil {
		return reply{}, invalid(fmt.Errorf("event patch: %w", err))
	}
	if err := m.admitEvent(r, &patch.Event); err != nil {
		return reply{}, err
	}
	_, err := m.client.CoreV1().Events(patch.Event.Namespace).Patch(ctx, patch.Event.Name, types.StrategicMergePatchType,
		[]byte(patch.PatchData), metav1.PatchOptions{})
	return reply{}, err
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
	if e.Source.Host != "" && e.Source.Host != r.Node {
		return forbidden(r)
	}
	if e.Namespace == "" || e.Name == "" {
		return invalid(fmt.Errorf("event %q in namespace %q lacks a name", e.Name, e.Namespace))
	}
	if !m.events.allow(r.Node, time.Now()) {
		return fmt.Errorf("events of node %s exceed their rate", r.Node)
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
