package records

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/apis/reliablesyncs/v1alpha1"
	"github.com/cloudcore-io/cloudcore/pkg/generated/clientset/versioned"
)

// api is the client of one of the two kinds of records. Both have the same fields, so that the rest of the package
// knows only ObjectSync.
type api interface {
	get(ctx context.Context, name string) (*v1alpha1.ObjectSync, error)
	create(ctx context.Context, o *v1alpha1.ObjectSync) (*v1alpha1.ObjectSync, error)
	updateStatus(ctx context.Context, o *v1alpha1.ObjectSync) (*v1alpha1.ObjectSync, error)
	delete(ctx context.Context, name string) error
}

func (s *Store) api(r *record) api {
	if r.cluster() {
		return clusterAPI{s.client}
	}
	return namespacedAPI{s.client, r.id.namespace}
}

// now deletes without grace (spec 03 §8.3).
func now() metav1.DeleteOptions {
	return metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
}

type namespacedAPI struct {
	client    versioned.Interface
	namespace string
}

func (a namespacedAPI) get(ctx context.Context, name string) (*v1alpha1.ObjectSync, error) {
	return a.client.ReliablesyncsV1alpha1().ObjectSyncs(a.namespace).Get(ctx, name, metav1.GetOptions{})
}

func (a namespacedAPI) create(ctx context.Context, o *v1alpha1.ObjectSync) (*v1alpha1.ObjectSync, error) {
	return a.client.ReliablesyncsV1alpha1().ObjectSyncs(a.namespace).Create(ctx, o, metav1.CreateOptions{})
}

func (a namespacedAPI) updateStatus(ctx context.Context, o *v1alpha1.ObjectSync) (*v1alpha1.ObjectSync, error) {
	return a.client.ReliablesyncsV1alpha1().ObjectSyncs(a.namespace).UpdateStatus(ctx, o, metav1.UpdateOptions{})
}

func (a namespacedAPI) delete(ctx context.Context, name string) error {
	return a.client.ReliablesyncsV1alpha1().ObjectSyncs(a.namespace).Delete(ctx, name, now())
}

type clusterAPI struct{ client versioned.Interface }

func (a clusterAPI) get(ctx context.Context, name string) (*v1alpha1.ObjectSync, error) {
	return fromCluster(a.client.ReliablesyncsV1alpha1().ClusterObjectSyncs().Get(ctx, name, metav1.GetOptions{}))
}

func (a clusterAPI) create(ctx context.Context, o *v1alpha1.ObjectSync) (*v1alpha1.ObjectSync, error) {
	return fromCluster(a.client.ReliablesyncsV1alpha1().ClusterObjectSyncs().Create(ctx, toCluster(o), metav1.CreateOptions{}))
}

func (a clusterAPI) updateStatus(ctx context.Context, o *v1alpha1.ObjectSync) (*v1alpha1.ObjectSync, error) {
	return fromCluster(a.client.ReliablesyncsV1alpha1().ClusterObjectSyncs().UpdateStatus(ctx, toCluster(o), metav1.UpdateOptions{}))
}

func (a clusterAPI) delete(ctx context.Context, name string) error {
	return a.client.ReliablesyncsV1alpha1().ClusterObjectSyncs().Delete(ctx, name, now())
}

func toCluster(o *v1alpha1.ObjectSync) *v1alpha1.ClusterObjectSync {
	return &v1alpha1.ClusterObjectSync{ObjectMeta: o.ObjectMeta, Spec: o.Spec, Status: o.Status}
}

func fromCluster(o *v1alpha1.ClusterObjectSync, err error) (*v1alpha1.ObjectSync, error) {
	if err != nil {
		return nil, err
	}
	return &v1alpha1.ObjectSync{ObjectMeta: o.ObjectMeta, Spec: o.Spec, Status: o.Status}, nil
}
