package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

const (
	// annotation names the replica that holds a node (spec 04 §3.1).
	annotation = "cloudcore"
	edgeLabel  = "node-role.kubernetes.io/edge"
	agentLabel = "node-role.kubernetes.io/agent"
	statusPart = "status"
)

func ownNode(r *request) error {
	if r.path.Name != r.Node {
		return forbidden(r)
	}
	return nil
}

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
	resync := func() { m.delivery.Resync(r.Node) }
	got, err := m.register(ctx, r.Node, node)
	if apierrors.IsAlreadyExists(err) {
		if labelErr := m.addRoles(ctx, r.Node); labelErr != nil {
			return reply{sent: resync}, labelErr
		}
	}
	if err != nil {
		return reply{sent: resync}, err
	}
	got.ManagedFields = nil
	content, err := object(got)
	return reply{content: content, sent: resync}, err
}

// register creates the Node. A node identity may not set most labels of kubernetes.io itself, so with impersonation
// these are added in a second step as cloudcore.
func (m *Module) register(ctx context.Context, name string, node *corev1.Node) (*corev1.Node, error) {
	node.ObjectMeta = metav1.ObjectMeta{Name: name, Labels: maps.Clone(node.Labels), Annotations: maps.Clone(node.Annotations)}
	if m.cfg.LocalAddress != "" {
		if node.Annotations == nil {
			node.Annotations = map[string]string{}
		}
		node.Annotations[annotation] = m.cfg.LocalAddress
	}
	if m.cfg.OnBehalfOf == nil {
		return m.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	}
	reserved := map[string]string{}
	for k, v := range node.Labels {
		if reservedLabel(k) {
			reserved[k] = v
			delete(node.Labels, k)
		}
	}
	got, err := m.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil || len(reserved) == 0 {
		return got, err
	}
	return m.label(context.WithoutCancel(ctx), name, reserved)
}

// reservedLabel says that a label has a prefix of Kubernetes (spec 04 §3.1).
func reservedLabel(key string) bool {
	prefix, _, ok := strings.Cut(key, "/")
	return ok && (prefix == "kubernetes.io" || strings.HasSuffix(prefix, ".kubernetes.io"))
}

// addRoles gives a Node that somebody else made the two labels without which it is no edge node.
func (m *Module) addRoles(ctx context.Context, name string) error {
	node, err := m.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get node %s: %w", name, err)
	}
	missing := map[string]string{}
	for _, key := range [...]string{edgeLabel, agentLabel} {
		if _, ok := node.Labels[key]; !ok {
			missing[key] = ""
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = m.label(ctx, name, missing)
	return err
}

// label adds labels as cloudcore itself.
func (m *Module) label(ctx context.Context, name string, labels map[string]string) (*corev1.Node, error) {
	return m.mergeMeta(ctx, name, map[string]any{"labels": labels})
}

func (m *Module) mergeMeta(ctx context.Context, name string, meta map[string]any) (*corev1.Node, error) {
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return nil, err
	}
	got, err := m.client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("patch metadata of node %s: %w", name, err)
	}
	return got, nil
}

// patchNode applies the status patch of a kubelet. The edge stores the object in the reply and computes its next patch
// from it, so that it need not be pushed as well.
func (m *Module) patchNode(ctx context.Context, r *request) (reply, error) {
	if err := ownNode(r); err != nil {
		return reply{}, err
	}
	patch, err := patchText(r)
	if err != nil {
		return reply{}, err
	}
	hold := m.delivery.Hold(r.Node, m.view.NodeKey(r.Node))
	got, err := m.client.CoreV1().Nodes().Patch(ctx, r.Node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, statusPart)
	if err != nil {
		return reply{sent: func() { hold.Release("", "") }}, err
	}
	got.ManagedFields = nil
	content, err := object(got)
	return reply{content: content, version: got.ResourceVersion, sent: func() { hold.Release(string(got.UID), got.ResourceVersion) }}, err
}

// patchText returns the patch that a message carries as a text (spec 04 §2 rows 2 and 10).
func patchText(r *request) ([]byte, error) {
	patch, err := r.ContentJSON()
	if err != nil {
		return nil, invalid(fmt.Errorf("patch: %w", err))
	}
	return patch, nil
}

// queryNode serves EdgeCore 1.22 and older.
func (m *Module) queryNode(ctx context.Context, r *request) (reply, error) {
	if err := ownNode(r); err != nil {
		return reply{}, err
	}
	got, err := m.client.CoreV1().Nodes().Get(ctx, r.Node, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	got.ManagedFields = nil
	got.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
	return bare(got, got.ResourceVersion)
}

// bare is a reply of the object alone, as queries get it.
func bare(o any, version string) (reply, error) {
	content, err := json.Marshal(o)
	if err != nil {
		return reply{}, fmt.Errorf("encode reply: %w", err)
	}
	return reply{content: content, version: version}, nil
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
	got, err := m.mergeMeta(ctx, r.Node, map[string]any{"labels": orEmpty(node.Labels), "annotations": orEmpty(node.Annotations)})
	if err != nil {
		return reply{}, err
	}
	return reply{content: contentOK(), version: got.ResourceVersion}, nil
}

// orEmpty avoids null, which in a merge patch would delete everything.
func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// nodePath is the resource of answers to legacy status messages: type node instead of nodestatus.
func nodePath(r *request) string {
	return message.Resource{Namespace: r.path.Namespace, Type: message.TypeNode, Name: r.path.Name}.String()
}

// insertNodeStatus registers a node of EdgeCore 1.11 and older, for which an existing Node is a success.
func (m *Module) insertNodeStatus(ctx context.Context, r *request) (reply, error) {
	a, err := m.insertNode(ctx, r)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return a, err
	}
	return reply{content: contentOK(), path: nodePath(r), sent: a.sent}, nil
}
