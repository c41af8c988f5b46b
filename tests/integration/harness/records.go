package harness

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/cloudcore-io/cloudcore/pkg/apis/reliablesyncs/v1alpha1"
	"github.com/cloudcore-io/cloudcore/pkg/generated/informers/externalversions"
	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

// Record is an ObjectSync or ClusterObjectSync.
type Record struct {
	Namespace, Kind, Name, Version string
}

// Records is a view of all delivery records in kube-apiserver, kept by a watch.
type Records struct {
	namespaced, cluster cache.SharedIndexInformer

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
}

// Records starts to follow the delivery records, until t ends.
func (e *Environment) Records(t testing.TB) *Records {
	t.Helper()
	factory := externalversions.NewSharedInformerFactory(e.CRD, 0)
	r := &Records{
		namespaced: factory.Reliablesyncs().V1alpha1().ObjectSyncs().Informer(),
		cluster:    factory.Reliablesyncs().V1alpha1().ClusterObjectSyncs().Informer(),
		changed:    make(chan struct{}),
	}
	for _, i := range []cache.SharedIndexInformer{r.namespaced, r.cluster} {
		_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { r.notify() }, UpdateFunc: func(any, any) { r.notify() }, DeleteFunc: func(any) { r.notify() },
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	factory.Start(stop)
	t.Cleanup(func() {
		close(stop)
		factory.Shutdown()
	})
	if !cache.WaitForCacheSync(t.Context().Done(), r.namespaced.HasSynced, r.cluster.HasSynced) {
		t.Fatal("delivery records could not be listed")
	}
	return r
}

func (r *Records) notify() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

// Of returns the records of a node by the UID of the object.
func (r *Records) Of(node string) map[string]Record {
	out := make(map[string]Record)
	for _, item := range r.namespaced.GetStore().List() {
		o := item.(*v1alpha1.ObjectSync)
		if uid, ok := strings.CutPrefix(o.Name, node+"."); ok {
			out[uid] = Record{o.Namespace, o.Spec.ObjectKind, o.Spec.ObjectName, o.Status.ObjectResourceVersion}
		}
	}
	for _, item := range r.cluster.GetStore().List() {
		o := item.(*v1alpha1.ClusterObjectSync)
		if uid, ok := strings.CutPrefix(o.Name, node+"."); ok {
			out[uid] = Record{"", o.Spec.ObjectKind, o.Spec.ObjectName, o.Status.ObjectResourceVersion}
		}
	}
	return out
}

// Wait returns when cond has no error. It is called at once, at every change of a record, and now and then for what else
// it looks at.
func (r *Records) Wait(ctx context.Context, cond func() error) error {
	const lookAgain = 250 * time.Millisecond
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// recordedKinds are the types of rows that have a record, with the kind that the record names.
var recordedKinds = map[string]string{"node": "Node", "pod": "Pod", "configmap": "ConfigMap", "secret": "Secret"}

// Match says how the records of the nodes differ from what the nodes hold: every object has one record with the version
// held, and there are no others.
func (r *Records) Match(nodes ...*edgesim.Node) error {
	for _, n := range nodes {
		records := r.Of(n.Name())
		for key, row := range n.Store() {
			kind, recorded := recordedKinds[row.Type]
			if !recorded {
				continue
			}
			record, ok := records[row.UID]
			delete(records, row.UID)
			parts := strings.Split(key, "/")
			want := Record{parts[0], kind, parts[len(parts)-1], row.Version}
			if kind == "Node" {
				want.Namespace = ""
			}
			if !ok {
				return fmt.Errorf("node %s holds %s without a record", n.Name(), key)
			}
			if record != want {
				return fmt.Errorf("node %s holds %s: record is %+v, want %+v", n.Name(), key, record, want)
			}
		}
		for uid, record := range records {
			return fmt.Errorf("node %s has record %+v of object %s, which it does not hold", n.Name(), record, uid)
		}
	}
	return nil
}
