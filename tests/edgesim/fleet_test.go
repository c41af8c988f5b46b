package edgesim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

func TestFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := c.options("ignored")
		o.Dir = t.TempDir()
		f, err := NewFleet(FleetOptions{Count: 20, Prefix: "sim", Concurrency: 4, Node: o})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		if err := f.WaitReady(within(t, 2*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if s := f.Status(); s != (Status{Nodes: 20, Joined: 20, Connected: 20, Registered: 20, Ready: 20}) {
			t.Errorf("status %+v", s)
		}
		if f.Node("sim-19") == nil || f.Node("sim-20") != nil || f.Nodes()[7].Name() != "sim-7" {
			t.Error("nodes have other names")
		}
		before := f.Sessions()
		f.Reconnect()
		if err := f.WaitSessions(within(t, time.Minute), before); err != nil {
			t.Fatal(err)
		}
		if k := f.Counters(); k.Sessions != 40 || k.Violations != 0 || len(f.Violations()) != 0 {
			t.Errorf("counters %+v", k)
		}
		f.SetFaults(Faults{DropAcks: 1})
		if f.Nodes()[3].Faults().DropAcks != 1 {
			t.Error("faults are not those of all nodes")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if s := f.Status(); s.Connected != 0 {
			t.Errorf("%d nodes are connected after the end", s.Connected)
		}
		// A second fleet of these nodes needs no token.
		signed := c.signed
		o.Token = ""
		again, err := NewFleet(FleetOptions{Count: 20, Prefix: "sim", Node: o})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		go func() { ended <- again.Run(ctx) }()
		if err := again.Wait(within(t, time.Minute), State.Connected); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; err != nil || c.signed != signed {
			t.Errorf("%d certificates were signed again, error %v", c.signed-signed, err)
		}
	})
}

func TestFleetJoinFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := c.options("x")
		o.Token += "forged"
		f, err := NewFleet(FleetOptions{Count: 3, Prefix: "sim", Node: o})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := f.Run(t.Context()); !errors.Is(err, ErrTokenRefused) || time.Since(begin) > 0 {
			t.Errorf("error %v after %s, want a refusal at once", err, time.Since(begin))
		}
		o.Token = c.token()
		c.https.down.Store(true)
		if f, err = NewFleet(FleetOptions{Count: 3, Prefix: "sim", Node: o}); err != nil {
			t.Fatal(err)
		}
		if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") || time.Since(begin) < 20*time.Second {
			t.Errorf("error %v after %s, want five attempts", err, time.Since(begin))
		}
	})
	for _, o := range []FleetOptions{{}, {Count: 1}, {Count: 1, Prefix: "x"}} {
		if _, err := NewFleet(o); err == nil {
			t.Errorf("options %+v were accepted", o)
		}
	}
}

func TestFleetAddresses(t *testing.T) {
	for i, want := range map[int]string{0: "198.18.0.0", 300: "198.18.1.44", 70000: "198.19.17.112"} {
		if got := fleetIP(i); got != want {
			t.Errorf("node %d has address %s, want %s", i, got, want)
		}
	}
}

func objectMeta(namespace, name, uid, version string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid), ResourceVersion: version}
}

func TestDiff(t *testing.T) {
	node := &corev1.Node{ObjectMeta: objectMeta("", "edge-1", "nu", "10"), Status: corev1.NodeStatus{Phase: corev1.NodeRunning}}
	pod := &corev1.Pod{
		ObjectMeta: objectMeta("default", "web", "pu", "11"),
		Spec: corev1.PodSpec{NodeName: "edge-1", Containers: []corev1.Container{{Name: "c", EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}}},
		}}}},
	}
	other := &corev1.Pod{ObjectMeta: objectMeta("default", "elsewhere", "ou", "12"), Spec: corev1.PodSpec{NodeName: "edge-2"}}
	cfg := &corev1.ConfigMap{ObjectMeta: objectMeta("default", "cfg", "cu", "13"), Data: map[string]string{"k": "v"}}
	sec := &corev1.Secret{ObjectMeta: objectMeta("default", "sec", "su", "14"), Data: map[string][]byte{"password": []byte("hidden")}}
	client := fake.NewClientset(node, pod, other, cfg, sec)

	put := func(n *Node, key string, obj any) { n.rec.put(key, splitPath(key).typ, mustMarshal(obj)) }
	right := func() *Node {
		n := newBench(t, Options{LinkOnly: true}).n
		put(n, "null/node/edge-1", node)
		stored := pod.DeepCopy()
		stored.Kind, stored.APIVersion = "Pod", "v1"
		stored.ManagedFields, stored.ResourceVersion = nil, "9" // neither counts
		put(n, "default/pod/web", stored)
		put(n, "default/configmap/cfg", cfg)
		put(n, "default/podpatch/web", "the edge's own")
		put(n, "kube-node-lease/lease/edge-1", node)
		return n
	}
	for _, tc := range []struct {
		name   string
		change func(*Node)
		want   []string
	}{
		{"equal", func(*Node) {}, nil},
		{"never fetched", func(n *Node) { n.rec.remove("default/configmap/cfg") }, nil},
		{"nothing there", func(n *Node) { n.WipeStore() }, []string{"default/pod/web: missing", "null/node/edge-1: missing"}},
		{"left over", func(n *Node) {
			put(n, "default/pod/elsewhere", other)
			put(n, "default/configmap/absent", cfg)
		}, []string{"default/configmap/absent: left over", "default/pod/elsewhere: left over"}},
		{"old content", func(n *Node) {
			old := sec.DeepCopy()
			old.Data["password"] = []byte("older")
			put(n, "default/secret/sec", old)
		}, []string{"default/secret/sec: version 14 instead of 14, first difference at .data.password"}},
		{"another object of that name", func(n *Node) {
			old := pod.DeepCopy()
			old.UID = "old"
			put(n, "default/pod/web", old)
		}, []string{"default/pod/web: UID old instead of pu"}},
		{"old status", func(n *Node) {
			old := node.DeepCopy()
			old.Status.Phase = corev1.NodePending
			put(n, "null/node/edge-1", old)
		}, []string{"null/node/edge-1: version 10 instead of 10, first difference at .status.phase"}},
		{"no JSON", func(n *Node) { n.rec.put("default/pod/web", "pod", []byte("text")) }, []string{"default/pod/web: unreadable"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := right()
			tc.change(n)
			diffs, err := n.Diff(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range diffs {
				if d.Node != "edge-1" {
					t.Errorf("difference of node %s", d.Node)
				}
				got = append(got, d.Resource+": "+d.Reason)
			}
			if !slices.EqualFunc(got, tc.want, strings.HasPrefix) {
				t.Errorf("differences %q, want %q", got, tc.want)
			}
			for _, text := range got {
				if strings.Contains(text, "hidden") || strings.Contains(text, "older") {
					t.Errorf("a difference tells a secret: %s", text)
				}
			}
		})
	}
	n := right()
	n.rec.remove("default/pod/web")
	f := &Fleet{nodes: []*Node{n}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := f.WaitEqual(ctx, client, time.Millisecond); !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "default/pod/web: missing") {
		t.Errorf("wait for what never comes: %v", err)
	}
	if err := (&Fleet{nodes: []*Node{right()}}).WaitEqual(t.Context(), client, time.Millisecond); err != nil {
		t.Error(err)
	}
}

func TestTokenFromCluster(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kubeedge", Name: "tokensecret"}, Data: map[string][]byte{"tokendata": []byte("a.b.c.d\n")}}
	if token, err := TokenFromCluster(t.Context(), fake.NewClientset(secret)); err != nil || token != "a.b.c.d" {
		t.Errorf("token %q, error %v", token, err)
	}
	if _, err := TokenFromCluster(t.Context(), fake.NewClientset()); err == nil {
		t.Error("no error without the Secret")
	}
	delete(secret.Data, "tokendata")
	if _, err := TokenFromCluster(t.Context(), fake.NewClientset(secret)); err == nil {
		t.Error("no error without the key")
	}
}
