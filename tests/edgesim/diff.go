package edgesim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Difference is one way in which the store of a node is not what kube-apiserver says it should be.
type Difference struct {
	Node, Resource, Reason string
}

func (d Difference) String() string { return d.Node + ": " + d.Resource + ": " + d.Reason }

// desiredRow is an object that a node should have.
type desiredRow struct {
	object any
	// needed rows must be there; the others must be right if they are there.
	needed bool
}

// Diff compares the stores of all nodes with kube-apiserver: each must hold its Node and exactly the pods bound to it;
// of the ConfigMaps and Secrets those that its pods refer to, if it ever asked; everything equal to the newest version.
// The answer is a snapshot: while things change there are differences. What the comparison leaves out is in normalise.
func (f *Fleet) Diff(ctx context.Context, client kubernetes.Interface) ([]Difference, error) {
	names := make([]string, len(f.nodes))
	for i, n := range f.nodes {
		names[i] = n.opts.Name
	}
	desired, err := desiredRows(ctx, client, names)
	if err != nil {
		return nil, err
	}
	var out []Difference
	for _, n := range f.nodes {
		rows := desired[n.opts.Name]
		if n.opts.NodeNamespace != message.NoNamespace {
			delete(rows, nodeRow(n.opts.Name)) // such an edge keeps what it asked for
		}
		out = append(out, compare(n, rows)...)
	}
	return out, nil
}

// Diff compares the store of one node, as Fleet.Diff does.
func (n *Node) Diff(ctx context.Context, client kubernetes.Interface) ([]Difference, error) {
	f := &Fleet{nodes: []*Node{n}}
	return f.Diff(ctx, client)
}

// ErrDiffers says that stores were not equal in time.
var ErrDiffers = errors.New("stores differ from kube-apiserver")

// WaitEqual compares at once and then every interval until there are no differences. The error tells the last ones.
func (f *Fleet) WaitEqual(ctx context.Context, client kubernetes.Interface, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var last []Difference
	for {
		diffs, err := f.Diff(ctx, client)
		switch {
		case err == nil && len(diffs) == 0:
			return nil
		case err == nil:
			last = diffs
		case ctx.Err() == nil:
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d differences, the first: %v: %w", ErrDiffers, len(last), first(last, 10), context.Cause(ctx))
		}
	}
}

func first(d []Difference, most int) []Difference { return d[:min(len(d), most)] }

func nodeRow(name string) string {
	return message.NoNamespace + "/" + message.TypeNode + "/" + name
}

// desiredRows lists what every node of that name should have, by resource path.
func desiredRows(ctx context.Context, client kubernetes.Interface, names []string) (map[string]map[string]desiredRow, error) {
	out := make(map[string]map[string]desiredRow, len(names))
	for _, name := range names {
		out[name] = make(map[string]desiredRow)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	for i := range nodes.Items {
		if rows, ok := out[nodes.Items[i].Name]; ok {
			rows[nodeRow(nodes.Items[i].Name)] = desiredRow{&nodes.Items[i], true}
		}
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	fetched := make(map[string]any)
	for i := range pods.Items {
		p := &pods.Items[i]
		rows, ok := out[p.Spec.NodeName]
		if !ok {
			continue
		}
		rows[p.Namespace+"/"+message.TypePod+"/"+p.Name] = desiredRow{p, true}
		for _, r := range references(&p.Spec) {
			key := p.Namespace + "/" + r.typ + "/" + r.name
			obj, known := fetched[key]
			if !known {
				if obj, err = fetchReference(ctx, client, p.Namespace, r); err != nil {
					return nil, err
				}
				fetched[key] = obj
			}
			if obj != nil {
				rows[key] = desiredRow{obj, false}
			}
		}
	}
	return out, nil
}

// fetchReference returns nil if the object does not exist.
func fetchReference(ctx context.Context, client kubernetes.Interface, namespace string, r reference) (any, error) {
	var obj any
	var err error
	if r.typ == message.TypeConfigMap {
		obj, err = client.CoreV1().ConfigMaps(namespace).Get(ctx, r.name, metav1.GetOptions{})
	} else {
		obj, err = client.CoreV1().Secrets(namespace).Get(ctx, r.name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s %s/%s: %w", r.typ, namespace, r.name, err)
	}
	return obj, nil
}

// ownRow says whether a row is the edge's own business: patches it sent, its lease, tokens, events and what other
// modules keep.
func ownRow(typ string) bool {
	switch typ {
	case message.TypeNode, message.TypePod, message.TypeConfigMap, message.TypeSecret:
		return false
	}
	return true
}

func compare(n *Node, desired map[string]desiredRow) []Difference {
	var out []Difference
	add := func(resource, format string, args ...any) {
		out = append(out, Difference{n.opts.Name, resource, fmt.Sprintf(format, args...)})
	}
	rows := n.Store()
	for key, row := range rows {
		if ownRow(row.Type) {
			continue
		}
		want, ok := desired[key]
		if !ok {
			if row.Type == message.TypeNode && key != nodeRow(n.opts.Name) {
				continue // an old edge's own row
			}
			add(key, "left over: UID %s, version %s", row.UID, row.Version)
			continue
		}
		if reason := unequal(row, want.object); reason != "" {
			add(key, "%s", reason)
		}
	}
	for key, want := range desired {
		if _, ok := rows[key]; !ok && want.needed {
			add(key, "missing")
		}
	}
	slices.SortFunc(out, func(a, b Difference) int { return strings.Compare(a.Resource, b.Resource) })
	return out
}

// unequal tells how a row differs from the object, or nothing.
func unequal(row Row, object any) string {
	have, err := normalise(row.Value)
	if err != nil {
		return "unreadable: " + err.Error()
	}
	text := mustMarshal(object)
	want, err := normalise(text)
	if err != nil {
		return "unreadable in kube-apiserver: " + err.Error()
	}
	m := parseMeta(text)
	if m.Metadata.UID != row.UID {
		return fmt.Sprintf("UID %s instead of %s", row.UID, m.Metadata.UID)
	}
	if path := firstDifference("", have, want); path != "" {
		return fmt.Sprintf("version %s instead of %s, first difference at %s", row.Version, m.Metadata.ResourceVersion, path)
	}
	return ""
}

// normalise decodes an object without what does not matter to an edge: kind and version of the API (kube-apiserver's
// lists leave them out), who manages which field, and the resource version, which changes with them. Empty values count
// as absent.
func normalise(value []byte) (any, error) {
	var obj map[string]any
	if err := json.Unmarshal(value, &obj); err != nil {
		return nil, err
	}
	delete(obj, "kind")
	delete(obj, "apiVersion")
	if md, ok := obj["metadata"].(map[string]any); ok {
		delete(md, "managedFields")
		delete(md, "resourceVersion")
		delete(md, "selfLink")
	}
	return prune(obj), nil
}

// prune returns v without null and empty values.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			if p := prune(item); p == nil {
				delete(v, key)
			} else {
				v[key] = p
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

// firstDifference returns the path of one difference. It never tells values: rows hold Secrets.
func firstDifference(path string, a, b any) string {
	am, aIsMap := a.(map[string]any)
	bm, bIsMap := b.(map[string]any)
	if aIsMap && bIsMap {
		keys := make(map[string]bool)
		for k := range am {
			keys[k] = true
		}
		for k := range bm {
			keys[k] = true
		}
		sorted := make([]string, 0, len(keys))
		for k := range keys {
			sorted = append(sorted, k)
		}
		slices.Sort(sorted)
		for _, k := range sorted {
			if p := firstDifference(path+"."+k, am[k], bm[k]); p != "" {
				return p
			}
		}
		return ""
	}
	if reflect.DeepEqual(a, b) {
		return ""
	}
	return path
}

// TokenFromCluster reads the bootstrap token from the Secret in which cloudcore keeps it (spec 02 §5).
func TokenFromCluster(ctx context.Context, client kubernetes.Interface) (string, error) {
	const namespace, name, key = "kubeedge", "tokensecret", "tokendata"
	secret, err := client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read bootstrap token: %w", err)
	}
	return tokenOf(secret, key)
}

func tokenOf(secret *corev1.Secret, key string) (string, error) {
	token := strings.TrimSpace(string(secret.Data[key]))
	if token == "" {
		return "", fmt.Errorf("read bootstrap token: secret %s/%s has no %s", secret.Namespace, secret.Name, key)
	}
	return token, nil
}
