package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

const (
	// annotation names the replica that holds a node (spec 04 §3.1).
	annotation = "cloudcore"
	// A Node with these labels, their values empty, is an edge node.
	edgeLabel  = "node-role.kubernetes.io/edge"
	agentLabel = "node-role.kubernetes.io/agent"
	// kubeletMark is part of the kubelet version that EdgeCore reports.
	kubeletMark = "-kubeedge-"
	statusPart  = "status"
)

func nodeKind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Node") }

// insertNode registers a node. Everything that it should hold is sent once more afterwards: EdgeCore registers when it
// starts, and its database may be new (spec 03 D13, spec 04 §3.1).
func (m *Module) insertNode(ctx context.Context, r *request) (reply, error) {
	if err := ownNode(r); err != nil {
		return reply{}, err
	}
	node := &corev1.Node{}
	if err := r.DecodeContent(node); err != nil {
		return reply{}, invalid(fmt.Errorf("node: %w", err))
	}
	m.defers(r, m.view.NodeKey(r.Node))
	got, err := m.register(ctx, r, node)
	if apierrors.IsAlreadyExists(err) {
		if err := m.adopt(ctx, r); err != nil {
			return reply{}, err
		}
	}
	if err == nil || apierrors.IsAlreadyExists(err) {
		r.then(func() { m.delivery.Resync(r.Node) })
	}
	if err != nil {
		return reply{}, err
	}
	return object(got, nodeKind())
}

// register creates the Node. A node identity may not set most labels of kubernetes.io itself, so with impersonation
// these are added in a second step as cloudcore.
func (m *Module) register(ctx context.Context, r *request, node *corev1.Node) (*corev1.Node, error) {
	labels := map[string]string{edgeLabel: "", agentLabel: ""}
	maps.Copy(labels, node.Labels)
	annotations := maps.Clone(node.Annotations)
	if m.cfg.LocalAddress != "" {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[annotation] = m.cfg.LocalAddress
	}
	node.ObjectMeta = metav1.ObjectMeta{Name: r.Node, Labels: labels, Annotations: annotations}
	if m.cfg.OnBehalfOf == nil {
		return m.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	}
	reserved := map[string]string{}
	maps.DeleteFunc(node.Labels, func(key, value string) bool {
		if !reservedLabel(key) {
			return false
		}
		reserved[key] = value
		return true
	})
	if _, err := m.client.CoreV1().Nodes().Create(m.as(ctx, r), node, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	return m.label(ctx, r.Node, reserved)
}

// reservedLabel says that a label has a prefix of Kubernetes (spec 04 §3.1).
func reservedLabel(key string) bool {
	prefix, name, ok := strings.Cut(key, "/")
	return ok && !strings.Contains(name, "/") && (prefix == "kubernetes.io" || strings.HasSuffix(prefix, ".kubernetes.io"))
}

// label adds labels as cloudcore. It tries again, because a Node without its labels is not served and is not created a
// second time (spec 04 §7, defect 4).
func (m *Module) label(ctx context.Context, name string, labels map[string]string) (*corev1.Node, error) {
	var node *corev1.Node
	var lastErr error
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 3, Steps: 4}
	err := wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (bool, error) {
		node, lastErr = m.mergeMeta(ctx, name, metaPatch{Labels: labels})
		return lastErr == nil, nil
	})
	if err != nil && lastErr != nil {
		return nil, lastErr
	}
	return node, err
}

// adopt gives a Node that somebody else made, or whose labels got lost, the labels of an edge node. A Node of another
// kubelet is left alone: whoever has a join token could otherwise take over the node of a control plane by its name.
func (m *Module) adopt(ctx context.Context, r *request) error {
	if node, ok := m.view.Node(r.Node); ok && len(missingRoles(node)) == 0 {
		return nil
	}
	node, err := m.client.CoreV1().Nodes().Get(ctx, r.Node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get node %s: %w", r.Node, err)
	}
	missing := missingRoles(node)
	if len(missing) == 0 {
		return nil
	}
	_, isEdge := node.Labels[edgeLabel]
	if version := node.Status.NodeInfo.KubeletVersion; !isEdge && version != "" && !strings.Contains(version, kubeletMark) {
		klog.FromContext(ctx).Info("Node refused: its name is that of a node which is no edge node", "node", r.Node, "kubeletVersion", version)
		return forbidden(r)
	}
	patch := metaPatch{Labels: missing}
	if m.cfg.LocalAddress != "" {
		patch.Annotations = map[string]string{annotation: m.cfg.LocalAddress}
	}
	_, err = m.mergeMeta(ctx, r.Node, patch)
	return err
}

func missingRoles(node *corev1.Node) map[string]string {
	missing := map[string]string{}
	if value, ok := node.Labels[edgeLabel]; !ok || value != "" {
		missing[edgeLabel] = ""
	}
	if _, ok := node.Labels[agentLabel]; !ok {
		missing[agentLabel] = ""
	}
	return missing
}

// metaPatch is a merge patch of metadata. Its maps only add and replace.
type metaPatch struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (m *Module) mergeMeta(ctx context.Context, name string, meta metaPatch) (*corev1.Node, error) {
	patch, err := json.Marshal(struct {
		Metadata metaPatch `json:"metadata"`
	}{meta})
	if err != nil {
		return nil, fmt.Errorf("encode the patch of node %s: %w", name, err)
	}
	got, err := m.client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("patch metadata of node %s: %w", name, err)
	}
	return got, nil
}

// patchNode applies the status patch of a kubelet, as it is. The edge stores the object in the reply and computes its
// next patch from it, so that it need not be pushed as well.
func (m *Module) patchNode(ctx context.Context, r *request) (reply, error) {
	if err := ownNode(r); err != nil {
		return reply{}, err
	}
	patch, err := r.ContentJSON()
	if err != nil {
		return reply{}, invalid(fmt.Errorf("node patch: %w", err))
	}
	m.defers(r, m.view.NodeKey(r.Node))
	got, err := m.client.CoreV1().Nodes().Patch(m.as(ctx, r), r.Node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, statusPart)
	if err != nil {
		return reply{}, err
	}
	a, err := object(got, nodeKind())
	a.version = got.ResourceVersion
	return a, err
}

// queryNode serves EdgeCore 1.22 and older, which ask every ten seconds.
func (m *Module) queryNode(ctx context.Context, r *request) (reply, error) {
	if err := ownNode(r); err != nil {
		return reply{}, err
	}
	if cached, ok := m.view.Node(r.Node); ok {
		node := *cached // complete changes the copy
		return bare(&node, nodeKind())
	}
	got, err := m.client.CoreV1().Nodes().Get(ctx, r.Node, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	return bare(got, nodeKind())
}

// updateNode merges labels and annotations of the edge over those of the Node; it never deletes any.
func (m *Module) updateNode(ctx context.Context, r *request) (reply, error) {
	if err := ownNode(r); err != nil {
		return reply{}, err
	}
	node := &corev1.Node{}
	if err := r.DecodeContent(node); err != nil {
		return reply{}, invalid(fmt.Errorf("node: %w", err))
	}
	known, ok := m.view.Node(r.Node)
	if !ok {
		known = &corev1.Node{}
	}
	delete(node.Annotations, annotation) // the edge's copy may name another replica
	patch := metaPatch{Labels: changed(known.Labels, node.Labels), Annotations: changed(known.Annotations, node.Annotations)}
	version := known.ResourceVersion
	if !ok || len(patch.Labels)+len(patch.Annotations) > 0 {
		got, err := m.mergeMeta(m.as(ctx, r), r.Node, patch)
		if err != nil {
			return reply{}, err
		}
		version = got.ResourceVersion
	}
	return reply{content: contentOK(), version: version}, nil
}

// changed returns the entries of to that from lacks.
func changed(from, to map[string]string) map[string]string {
	diff := map[string]string{}
	for k, v := range to {
		if old, ok := from[k]; !ok || old != v {
			diff[k] = v
		}
	}
	return diff
}
