package tunnelport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// podSelector finds the pods of cloudcore, of any implementation (spec 01 §15.4).
const podSelector = "kubeedge=cloudcore"

// maxRounds bounds the lost races of one negotiation. A round is lost only to another replica
// that won it, so that n replicas need at most n rounds each.
const maxRounds = 1000

// Negotiate returns the port of the replica at ip, and records it if it is new. The namespace
// must exist. ctx bounds the whole of it.
func Negotiate(ctx context.Context, client kubernetes.Interface, namespace string, ip net.IP) (int, error) {
	if len(ip) == 0 || ip.IsUnspecified() {
		return 0, fmt.Errorf("negotiate tunnel port: %q is not the address of a replica", ip)
	}
	n := negotiation{client: client, namespace: namespace, ip: ip.String()}
	for range maxRounds {
		port, err := n.round(ctx)
		if err == nil {
			klog.FromContext(ctx).Info("Agreed on a tunnel port", "ip", n.ip, "port", port)
			return port, nil
		}
		// Someone else created, changed or removed the object: look again.
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !errors.Is(err, errGone) {
			return 0, fmt.Errorf("negotiate tunnel port of %s in configmap %s/%s: %w", ip, namespace, ConfigMapName, err)
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("negotiate tunnel port of %s: %w", ip, ctx.Err())
		}
	}
	return 0, fmt.Errorf("negotiate tunnel port of %s: other writers of configmap %s/%s were faster %d times", ip, namespace, ConfigMapName, maxRounds)
}

// errGone tells that the object was deleted between reading and writing it.
var errGone = errors.New("configmap is gone")

type negotiation struct {
	client    kubernetes.Interface
	namespace string
	ip        string

	// Listed at most once, when something has to be written.
	pods   []corev1.Pod
	listed bool
	seen   bool // the list succeeded
}

// round reads the object, settles the port and writes if that changed anything.
func (n *negotiation) round(ctx context.Context) (int, error) {
	api := n.client.CoreV1().ConfigMaps(n.namespace)
	current, err := api.Get(ctx, ConfigMapName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		fresh := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ConfigMapName, Namespace: n.namespace}}
		port, _, err := n.settle(ctx, fresh)
		if err != nil {
			return 0, err
		}
		_, err = api.Create(ctx, fresh, metav1.CreateOptions{})
		return port, err
	}
	if err != nil {
		return 0, err
	}
	port, changed, err := n.settle(ctx, current)
	if err != nil || !changed {
		return port, err
	}
	_, err = api.Update(ctx, current, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		err = errGone
	}
	return port, err
}

// settle decides the port and changes the annotations of m accordingly.
func (n *negotiation) settle(ctx context.Context, m *corev1.ConfigMap) (port int, changed bool, err error) {
	record, err := ParseRecord(m.Annotations[RecordAnnotation])
	if err != nil {
		return 0, false, err
	}
	port, held, changed := record.keep(n.ip)
	if !held {
		delete(record.IPTunnelPort, n.ip) // a port that cannot be one
		pods := n.free(ctx, m, record)
		if port, err = record.assign(n.ip); err != nil {
			return 0, false, err
		}
		n.mark(m, record, pods)
		changed = true
	}
	if changed {
		metav1.SetMetaDataAnnotation(&m.ObjectMeta, RecordAnnotation, record.String())
	}
	return port, changed, nil
}

// free takes the ports that nobody holds out of the record and returns which addresses belong
// to pods. Without permission to list pods it frees only ports without an address.
func (n *negotiation) free(ctx context.Context, m *corev1.ConfigMap, record Record) sets.Set[string] {
	n.list(ctx)
	known := knownPodAddresses(m)
	if !n.seen {
		record.collect(nil)
		return known
	}
	living := sets.New[string]()
	for _, pod := range n.pods {
		for _, ip := range pod.Status.PodIPs {
			living.Insert(ip.IP)
			if !pod.Spec.HostNetwork {
				known.Insert(ip.IP)
			}
		}
	}
	gone := known.Difference(living)
	gone.Delete(n.ip) // it runs, whatever the list says
	for ip := range gone {
		if port, ok := record.IPTunnelPort[ip]; ok {
			klog.FromContext(ctx).Info("Freed the tunnel port of a pod that is gone", "ip", ip, "port", port)
		}
	}
	record.collect(gone)
	return known
}

func (n *negotiation) list(ctx context.Context) {
	if n.listed {
		return
	}
	n.listed = true
	pods, err := n.client.CoreV1().Pods(n.namespace).List(ctx, metav1.ListOptions{LabelSelector: podSelector})
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Did not look for tunnel ports of pods that are gone", "err", err)
		return
	}
	n.pods, n.seen = pods.Items, true
}

// mark notes which addresses of the record are pod addresses.
func (n *negotiation) mark(m *corev1.ConfigMap, record Record, pods sets.Set[string]) {
	for ip := range pods {
		if _, ok := record.IPTunnelPort[ip]; !ok {
			pods.Delete(ip)
		}
	}
	if len(pods) == 0 {
		delete(m.Annotations, PodsAnnotation)
		return
	}
	text, _ := json.Marshal(sets.List(pods)) // strings always marshal
	metav1.SetMetaDataAnnotation(&m.ObjectMeta, PodsAnnotation, string(text))
}

// knownPodAddresses reads our own annotation; one that was tampered with tells nothing.
func knownPodAddresses(m *corev1.ConfigMap) sets.Set[string] {
	var list []string
	if err := json.Unmarshal([]byte(m.Annotations[PodsAnnotation]), &list); err != nil {
		return sets.New[string]()
	}
	return sets.New(list...)
}
