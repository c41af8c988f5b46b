package edgesim

import (
	"encoding/json"
	"errors"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// kubelet is what the kubelet inside EdgeCore shows to the cloud. It belongs to the core; it never waits, but goes on
// when an answer comes.
type kubelet struct {
	c *core

	registering bool
	registered  bool
	retry       time.Duration // of the registration
	node        nodeStatus
	lease       leaseKeeper

	pods    map[types.UID]*pod
	podIPs  uint32
	tick    *task
	started time.Time
}

func newKubelet(c *core) *kubelet {
	k := &kubelet{c: c, pods: make(map[types.UID]*pod), started: c.now()}
	k.node = nodeStatus{k: k}
	k.lease = leaseKeeper{k: k}
	return k
}

func (k *kubelet) logger() klog.Logger { return klog.FromContext(k.c.life) }

// nodeKey is the row of the node's own Node.
func (k *kubelet) nodeKey() string {
	return k.c.n.opts.NodeNamespace + "/" + message.TypeNode + "/" + k.c.n.opts.Name
}

// connected starts the registration. The kubelet registers once in the life of its process (spec 04 §4.4).
func (k *kubelet) connected() {
	if !k.registered && !k.registering {
		k.register()
	}
}

// register creates the Node and, if it exists, looks for it in the store, which the cloud fills (spec 04 §3.1).
func (k *kubelet) register() {
	k.registering = true
	content := mustMarshal(k.node.initial())
	k.c.request(message.OpInsert, k.nodeKey(), content, remote, func(m *message.Message, err error) {
		if err == nil {
			var node *corev1.Node
			if node, err = decodeObject[corev1.Node](k.c, m); err == nil {
				k.storeObject(k.nodeKey(), "Node", m)
				k.isRegistered(node.UID != "")
				return
			}
		}
		if !apierrors.IsAlreadyExists(err) {
			k.logger().V(2).Info("Registration failed", "err", err)
			k.registerLater()
			return
		}
		if k.c.n.opts.NodeNamespace != message.NoNamespace {
			k.queryNode()
			return
		}
		row, ok := k.c.n.rec.row(k.nodeKey())
		k.isRegistered(ok && row.UID != "")
	})
}

// queryNode is how an EdgeCore up to 1.22 gets its Node (spec 04 §2, row 3).
func (k *kubelet) queryNode() {
	k.c.request(message.OpQuery, k.nodeKey(), nil, remote, func(*message.Message, error) {
		row, ok := k.c.n.rec.row(k.nodeKey())
		k.isRegistered(ok && row.UID != "")
	})
}

func (k *kubelet) isRegistered(yes bool) {
	if !yes {
		k.registerLater()
		return
	}
	k.registering, k.registered = false, true
	k.c.n.rec.update(func() { k.c.n.rec.registered = true })
	k.node.evaluate()
	k.lease.run()
}

func (k *kubelet) registerLater() {
	t := &k.c.n.opts.Timing
	k.retry = nextBackoff(k.retry, t.RetryMin, t.RetryMax)
	k.c.after(k.retry, k.register)
}

// nodeRowChanged is called after a push of a Node.
func (k *kubelet) nodeRowChanged(key string) {
	if key == k.nodeKey() && k.registered {
		k.node.evaluateLater(k.c.n.opts.Timing.NodeStatus)
	}
}

// storeObject stores the object in an answer as EdgeCore's clients do, which add kind and version (spec 04 §1.2).
func (k *kubelet) storeObject(key, kind string, m *message.Message) {
	var answer struct{ Object json.RawMessage }
	if err := json.Unmarshal(m.Content, &answer); err != nil || len(answer.Object) < 2 {
		return // decodeObject has judged it
	}
	k.c.n.rec.put(key, splitPath(key).typ, withKind(answer.Object, kind))
}

// withKind adds kind and apiVersion v1 to the JSON of an object that lacks them.
func withKind(object []byte, kind string) []byte {
	if m := parseMeta(object); m.Kind != "" {
		return object
	}
	head := `{"kind":"` + kind + `","apiVersion":"v1"`
	if string(object) == "{}" {
		return []byte(head + "}")
	}
	return append([]byte(head+","), object[1:]...)
}

// objectResp is the wrapper of answers that carry an object or an error (spec 04 §1.2).
type objectResp[T any] struct {
	Object *T
	Err    *struct{ ErrStatus metav1.Status }
}

// decodeObject reads such an answer as EdgeCore's clients do.
func decodeObject[T any](c *core, m *message.Message) (*T, error) {
	if m.Route.Operation == message.OpError {
		text, _ := m.ContentText()
		return nil, errors.New(text)
	}
	var resp objectResp[T]
	if err := json.Unmarshal(contentData(m), &resp); err != nil {
		return nil, err
	}
	if resp.Err != nil {
		if !reflect.DeepEqual(resp.Err.ErrStatus, metav1.Status{}) {
			return resp.Object, &apierrors.StatusError{ErrStatus: resp.Err.ErrStatus}
		}
		c.n.rec.violate(FalseSuccess, m.Route.Resource, m.Header.ID, "Err is an empty status")
	}
	if resp.Object == nil {
		c.n.rec.violate(WouldCrash, m.Route.Resource, m.Header.ID, "success without Object")
		return nil, errors.New("answer has no object")
	}
	return resp.Object, nil
}

// nextBackoff doubles d within its bounds.
func nextBackoff(d, least, most time.Duration) time.Duration {
	return min(max(2*d, least), most)
}

// mustMarshal encodes a value that always can be.
func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// stamp is t as the API keeps it, in whole seconds.
func stamp(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }
