package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	crdfake "github.com/cloudcore-io/cloudcore/pkg/generated/clientset/versioned/fake"
	crdinformers "github.com/cloudcore-io/cloudcore/pkg/generated/informers/externalversions"
)

// capture returns a logger and what it has logged.
func capture(t *testing.T) (klog.Logger, func() string) {
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true), ktesting.Verbosity(0)))
	u, ok := logger.GetSink().(ktesting.Underlier)
	if !ok {
		t.Fatal("not a testing logger")
	}
	return logger, u.GetBuffer().String
}

// runInformers runs the set until the returned function is called.
func runInformers(t *testing.T, ctx context.Context, set *Informers) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- set.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}},
		Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "{}"},
	}}
}

func TestSpec01Check19_OnlyInformersThatWereAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		typed, crd := fake.NewClientset(node("n1")), crdfake.NewSimpleClientset()
		core, custom := informers.NewSharedInformerFactory(typed, 0), crdinformers.NewSharedInformerFactory(crd, 0)
		set := NewInformers("informers")
		nodes := core.Core().V1().Nodes().Informer()
		for range 2 { // two modules share it
			if err := set.Add("nodes", Required, nodes, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Ready(); err == nil || err.Error() != "waiting for nodes" {
			t.Errorf("before the start: %v", err)
		}
		stop := runInformers(t, t.Context(), set)
		// A test's tracker answers at once; the reflector polls for completion.
		time.Sleep(time.Second)
		synctest.Wait()
		if err := set.Ready(); err != nil {
			t.Errorf("after the start: %v", err)
		}
		obj, found, err := nodes.GetStore().GetByKey("n1")
		if err != nil || !found {
			t.Fatalf("no node: %v", err)
		}
		n := obj.(*corev1.Node)
		if len(n.ManagedFields) > 0 || n.Annotations[corev1.LastAppliedConfigAnnotation] != "{}" {
			t.Errorf("transformed object: %+v", n.ObjectMeta)
		}
		if err := set.Add("pods", Required, core.Core().V1().Pods().Informer(), nil); err == nil {
			t.Error("an informer is accepted after the start")
		}
		stop()
		for _, a := range append(typed.Actions(), crd.Actions()...) {
			if a.GetResource().Resource != "nodes" {
				t.Errorf("unasked %s of %s", a.GetVerb(), a.GetResource())
			}
		}
		if err := set.Run(t.Context()); err == nil {
			t.Error("runs twice")
		}
		core.Shutdown()
		custom.Shutdown()
	})
}

func TestSpec01Check18_MissingPermissionDegrades(t *testing.T) {
	logger, lines := capture(t)
	synctest.Test(t, func(t *testing.T) {
		typed, crd := fake.NewClientset(node("n1")), crdfake.NewSimpleClientset()
		forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "devices.kubeedge.io", Resource: "devicestatuses"}, "", errors.New("not in the role"))
		crd.PrependReactor("list", "devicestatuses", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, forbidden })
		core, custom := informers.NewSharedInformerFactory(typed, 0), crdinformers.NewSharedInformerFactory(crd, 0)
		set := NewInformers("informers")
		err := errors.Join(
			set.Add("nodes", Required, core.Core().V1().Nodes().Informer(), nil),
			set.Add("devicestatuses.devices.kubeedge.io", Optional, custom.Devices().V1beta1().DeviceStatuses().Informer(), nil))
		if err != nil {
			t.Fatal(err)
		}
		stop := runInformers(t, klog.NewContext(t.Context(), logger), set)
		time.Sleep(4 * time.Minute) // many tries of the reflector
		synctest.Wait()
		if err := set.Ready(); err != nil {
			t.Errorf("not ready because of an optional informer: %v", err)
		}
		if n := strings.Count(lines(), "Permission is missing"); n != 1 || !strings.Contains(lines(), `resource="devicestatuses.devices.kubeedge.io"`) {
			t.Errorf("%d lines about the permission:\n%s", n, lines())
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if n := strings.Count(lines(), "Permission is missing"); n != 2 {
			t.Errorf("%d lines after the reminder is due:\n%s", n, lines())
		}
		stop()
	})
}

func TestRequiredInformerSaysWhyItIsNotReady(t *testing.T) {
	logger, lines := capture(t)
	synctest.Test(t, func(t *testing.T) {
		typed := fake.NewClientset()
		var mu sync.Mutex
		var trouble error = apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, "")
		typed.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			return trouble != nil, nil, trouble
		})
		core := informers.NewSharedInformerFactory(typed, 0)
		set := NewInformers("informers")
		if err := set.Add("nodes", Required, core.Core().V1().Nodes().Informer(), Chain(StripManagedFields, StripManagedFields)); err != nil {
			t.Fatal(err)
		}
		stop := runInformers(t, klog.NewContext(t.Context(), logger), set)
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := set.Ready(); err == nil || !strings.Contains(err.Error(), "waiting for nodes (") || !strings.Contains(err.Error(), "not found") {
			t.Errorf("Ready: %v", err)
		}
		mu.Lock()
		trouble = errors.New("connection refused")
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		mu.Lock()
		trouble = nil
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if err := set.Ready(); err != nil {
			t.Errorf("Ready after the trouble: %v", err)
		}
		stop()
	})
	for _, want := range []string{"does not have this resource", "List or watch failed, trying again"} {
		if strings.Count(lines(), want) != 1 {
			t.Errorf("%q is not in the log once:\n%s", want, lines())
		}
	}
}

func TestEndOfAWatchIsQuiet(t *testing.T) {
	logger, lines := capture(t)
	m := &member{resource: "nodes"}
	for _, err := range []error{apierrors.NewResourceExpired("too old")} {
		m.failed(klog.NewContext(t.Context(), logger), nil, err)
	}
	if lines() != "" || m.err != nil {
		t.Errorf("log %q, error %v", lines(), m.err)
	}
}

func TestTransforms(t *testing.T) {
	for _, obj := range []any{nil, "text", cache.DeletedFinalStateUnknown{Key: "k"}, &corev1.Pod{}} {
		if _, err := StripManagedFields(obj); err != nil {
			t.Errorf("%T: %v", obj, err)
		}
	}
	fails := errors.New("fails")
	chain := Chain(StripManagedFields, func(any) (any, error) { return nil, fails }, func(any) (any, error) { t.Error("called"); return nil, nil })
	if _, err := chain(node("n")); !errors.Is(err, fails) {
		t.Errorf("chain: %v", err)
	}
}

// kinds is a mapper that knows what it is told at each discovery.
type kinds struct {
	meta.ResettableRESTMapper
	installed, known map[string]bool
	resets           int
}

func (k *kinds) Reset() {
	k.resets++
	k.known = k.installed
}

func (k *kinds) RESTMapping(gk schema.GroupKind, _ ...string) (*meta.RESTMapping, error) {
	if !k.known[gk.Kind] {
		return nil, &meta.NoKindMatchError{GroupKind: gk}
	}
	return &meta.RESTMapping{Resource: schema.GroupVersionResource{Resource: strings.ToLower(gk.Kind)}}, nil
}

func TestMapperNoticesNewKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &kinds{installed: map[string]bool{"Pod": true}, known: map[string]bool{"Pod": true}}
		m := newMapper(inner)
		ask := func(kind string) error {
			_, err := m.RESTMapping(schema.GroupKind{Kind: kind})
			return err
		}
		for range 1000 {
			if err := ask("Thing"); !meta.IsNoMatchError(err) {
				t.Fatalf("unknown kind: %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if inner.resets < 8 || inner.resets > 10 {
			t.Errorf("%d discoveries in 100 s, want one in 10 s", inner.resets)
		}
		inner.installed = map[string]bool{"Pod": true, "Thing": true}
		time.Sleep(discoveryPeriod)
		if err := errors.Join(ask("Thing"), ask("Pod")); err != nil {
			t.Errorf("after the kind was installed: %v", err)
		}
		resets := inner.resets
		inner.installed = map[string]bool{"Pod": true, "Other": true}
		m.Reset()
		if err := ask("Other"); err != nil || inner.resets != resets+1 {
			t.Errorf("after Reset: %v, %d discoveries", err, inner.resets-resets)
		}
	})
}

func TestSpec01Check18_MissingPermissions(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		r.Status.Allowed = r.Spec.ResourceAttributes.Resource != "devicestatuses"
		return true, r, nil
	})
	missing, err := MissingPermissions(t.Context(), client, []Permission{
		{Resource: "pods", Verb: "list"},
		{Group: "devices.kubeedge.io", Resource: "devicestatuses", Verb: "watch"},
		{Resource: "pods", Subresource: "status", Verb: "patch"},
		{Group: "devices.kubeedge.io", Resource: "devicestatuses", Verb: "list"},
	})
	if want := "[watch devices.kubeedge.io/devicestatuses list devices.kubeedge.io/devicestatuses]"; err != nil || fmt.Sprint(missing) != want {
		t.Errorf("missing %v, %v; want %s", missing, err, want)
	}
	if got := (Permission{Resource: "pods", Subresource: "status", Verb: "patch"}).String(); got != "patch pods/status" {
		t.Errorf("text %q", got)
	}
	client.PrependReactor("create", "selfsubjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("server is down")
	})
	if _, err := MissingPermissions(t.Context(), client, []Permission{{Resource: "pods", Verb: "list"}}); err == nil || !strings.Contains(err.Error(), "list pods") {
		t.Errorf("error %v", err)
	}
}

func TestEnsureNamespace(t *testing.T) {
	group := schema.GroupResource{Resource: "namespaces"}
	for _, tc := range []struct {
		name        string
		exists      bool
		get, create error
		fails       bool
		verbs       []string
	}{
		{name: "there", exists: true, verbs: []string{"get"}},
		{name: "not there", verbs: []string{"get", "create"}},
		{name: "may not look", get: apierrors.NewForbidden(group, "", nil), verbs: []string{"get"}},
		{name: "someone was faster", create: apierrors.NewAlreadyExists(group, "kubeedge"), verbs: []string{"get", "create"}},
		{name: "may not create", create: apierrors.NewForbidden(group, "", nil), fails: true, verbs: []string{"get", "create"}},
		{name: "server is down", get: errors.New("down"), fails: true, verbs: []string{"get"}},
	} {
		client := fake.NewClientset()
		if tc.exists {
			client = fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kubeedge"}})
		}
		for verb, err := range map[string]error{"get": tc.get, "create": tc.create} {
			if err != nil {
				client.PrependReactor(verb, "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
			}
		}
		err := EnsureNamespace(t.Context(), client, "kubeedge")
		var verbs []string
		for _, a := range client.Actions() {
			verbs = append(verbs, a.GetVerb())
		}
		if (err != nil) != tc.fails || !slices.Equal(verbs, tc.verbs) {
			t.Errorf("%s: error %v after %q", tc.name, err, verbs)
		}
	}
}
