package edgesim

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

const (
	leaseNamespace = "kube-node-lease"
	// leaseSeconds is the duration of a node lease, renewed four times within it (spec 04 §3.8).
	leaseSeconds = 40
	// leaseAttempts is how often a failed renewal is repeated at once.
	leaseAttempts = 5
	// leaseJitter is the largest addition to the period, as a share of it.
	leaseJitter = 0.04
)

// leaseKeeper renews the node's lease as a kubelet does (spec 04 §3.8).
type leaseKeeper struct {
	k     *kubelet
	lease *coordinationv1.Lease
	retry time.Duration
}

func (l *leaseKeeper) resource() string {
	return leaseNamespace + "/" + message.TypeLease + "/" + l.k.c.n.opts.Name
}

// run is one beat.
func (l *leaseKeeper) run() {
	if l.lease == nil {
		l.ensure(leaseAttempts)
		return
	}
	l.renew(leaseAttempts)
}

// later plans the next beat.
func (l *leaseKeeper) later() {
	period := l.k.c.n.opts.Timing.Lease
	period += time.Duration(leaseJitter * l.k.c.random.Float64() * float64(period))
	l.k.c.after(period, l.run)
}

// ensure gets the lease and renews it with the given attempts, or creates it.
func (l *leaseKeeper) ensure(attempts int) {
	l.k.c.request(message.OpQuery, l.resource(), nil, remote, func(m *message.Message, err error) {
		var lease *coordinationv1.Lease
		if err == nil {
			lease, err = decodeObject[coordinationv1.Lease](l.k.c, m)
		}
		switch {
		case err == nil:
			l.have(lease)
			l.renew(attempts)
		case apierrors.IsNotFound(err):
			l.create()
		default:
			l.failed(err)
		}
	})
}

func (l *leaseKeeper) create() {
	row, ok := l.k.c.n.rec.row(l.k.nodeKey())
	if !ok || row.UID == "" {
		l.later() // without its owner a kubelet doesn't create the lease this time
		return
	}
	name := l.k.c.n.opts.Name
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: leaseNamespace,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(row.UID),
			}},
		},
	}
	l.stamp(lease)
	l.k.c.request(message.OpInsert, l.resource(), mustMarshal(lease), remote, func(m *message.Message, err error) {
		var created *coordinationv1.Lease
		if err == nil {
			created, err = decodeObject[coordinationv1.Lease](l.k.c, m)
		}
		if err != nil {
			l.failed(err)
			return
		}
		l.have(created)
		l.renewed()
	})
}

// renew writes the present time into the lease; a conflict asks for it again first.
func (l *leaseKeeper) renew(attempts int) {
	lease := l.lease.DeepCopy()
	l.stamp(lease)
	l.k.c.request(message.OpUpdate, l.resource(), mustMarshal(lease), remote, func(m *message.Message, err error) {
		var updated *coordinationv1.Lease
		if err == nil {
			updated, err = decodeObject[coordinationv1.Lease](l.k.c, m)
		}
		switch {
		case err == nil:
			l.have(updated)
			l.renewed()
		case attempts <= 1:
			l.failed(err)
		case apierrors.IsConflict(err):
			l.k.c.n.rec.count(func(c *Counters) { c.LeaseErrors++ })
			l.ensure(attempts - 1)
		default:
			l.k.c.n.rec.count(func(c *Counters) { c.LeaseErrors++ })
			l.renew(attempts - 1)
		}
	})
}

func (l *leaseKeeper) stamp(lease *coordinationv1.Lease) {
	now := metav1.NewMicroTime(l.k.c.now())
	holder, seconds := l.k.c.n.opts.Name, int32(leaseSeconds)
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &holder, &seconds, &now
}

// have takes over the newest lease; only its version makes the next update succeed.
func (l *leaseKeeper) have(lease *coordinationv1.Lease) {
	l.lease = lease
	l.retry = 0
}

func (l *leaseKeeper) renewed() {
	rec := &l.k.c.n.rec
	rec.update(func() {
		rec.counters.Leases++
		rec.leased = true
	})
	l.later()
}

// failed forgets the lease and asks for it again, with backoff.
func (l *leaseKeeper) failed(err error) {
	l.lease = nil
	l.k.c.n.rec.count(func(c *Counters) { c.LeaseErrors++ })
	l.k.logger().V(4).Info("Lease failed", "err", err)
	t := &l.k.c.n.opts.Timing
	l.retry = nextBackoff(l.retry, t.RetryMin, t.RetryMax)
	l.k.c.after(l.retry, func() { l.ensure(leaseAttempts) })
}
