package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/cmd/cloudcore/app/options"
	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

// wants reports which of the permissions, in the words of kube.Permission, a configuration asks for.
func wants(t *testing.T, change func(*v1alpha1.CloudCoreConfig), gates map[string]bool) map[string]bool {
	t.Helper()
	cfg := v1alpha1.Default()
	change(cfg)
	g, _, err := options.FeatureGates(gates)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, p := range permissions(cfg, g) {
		if p.For == "" {
			t.Errorf("%s has no purpose", p)
		}
		out[p.String()] = true
	}
	return out
}

func TestSpec01Check19_PermissionsFollowEnabledModules(t *testing.T) {
	defaults := wants(t, func(*v1alpha1.CloudCoreConfig) {}, nil)
	for want, is := range map[string]bool{
		"list pods": true, "list devices.kubeedge.io/devicestatuses": true, "get storage.k8s.io/volumeattachments": true,
		"patch pods/status": true, "create serviceaccounts/token": true, "update reliablesyncs.kubeedge.io/objectsyncs/status": true,
		"list operations.kubeedge.io/nodeupgradejobs": false, "impersonate users": false, "list policy.kubeedge.io/serviceaccountaccesses": false,
	} {
		if defaults[want] != is {
			t.Errorf("defaults: %s is %v, want %v", want, defaults[want], is)
		}
	}
	all := wants(t, func(c *v1alpha1.CloudCoreConfig) {
		c.Modules.TaskManager.Enable, c.Modules.CloudStream.Enable = true, true
		c.Modules.CloudHub.Authorization = v1alpha1.Authorization{Enable: true}
	}, map[string]bool{"requireAuthorization": true})
	for _, want := range []string{"list operations.kubeedge.io/configupdatejobs", "create configmaps", "impersonate groups", "update certificates.k8s.io/certificatesigningrequests/approval"} {
		if !all[want] {
			t.Errorf("all modules: %s is not asked for", want)
		}
	}
	none := wants(t, func(c *v1alpha1.CloudCoreConfig) {
		m := &c.Modules
		m.CloudHub.Enable, m.EdgeController.Enable, m.DeviceController.Enable, m.SyncController.Enable = false, false, false, false
	}, nil)
	if len(none) > 0 {
		t.Errorf("no modules: %v", none)
	}
}

func TestSpec01Check18_OneLineForEachMissingResource(t *testing.T) {
	logger, lines := capture(t)
	client := fake.NewClientset()
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		// What the role of v1.23.1 lacks.
		r.Status.Allowed = !slices.Contains([]string{"devicestatuses", "volumeattachments"}, r.Spec.ResourceAttributes.Resource)
		return true, r, nil
	})
	gates, _, err := options.FeatureGates(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := permissionCheck(client, permissions(v1alpha1.Default(), gates))
	ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
	cancel() // it logs nevertheless: the fake doesn't look at it
	if err := m.Run(ctx); err != nil || m.Ready() != nil {
		t.Errorf("Run: %v, Ready: %v", err, m.Ready())
	}
	if n := strings.Count(lines(), "Permission is missing"); n != 2 {
		t.Errorf("%d lines, want one for each of two resources:\n%s", n, lines())
	}
	for _, want := range []string{`resource="devicestatuses"`, `verbs=["list","watch","get","create","update","patch"]`, `neededFor="states of devices"`, `resource="volumeattachments"`} {
		if !strings.Contains(lines(), want) {
			t.Errorf("%s is not in\n%s", want, lines())
		}
	}

	client.PrependReactor("create", "selfsubjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("down")
	})
	before := lines()
	if err := m.Run(ctx); err != nil || lines() != before {
		t.Errorf("without an answer: %v, log %s", err, lines()[len(before):])
	}
}
