package app

import (
	"context"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/featuregate"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/cmd/cloudcore/app/options"
	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
	"github.com/cloudcore-io/cloudcore/pkg/kube"
)

// API groups of what cloudcore works with.
const (
	groupCoordination = "coordination.k8s.io"
	groupStorage      = "storage.k8s.io"
	groupCerts        = "certificates.k8s.io"
	groupRBAC         = "rbac.authorization.k8s.io"
	groupSyncs        = "reliablesyncs.kubeedge.io"
	groupDevices      = "devices.kubeedge.io"
	groupRules        = "rules.kubeedge.io"
	groupOperations   = "operations.kubeedge.io"
	groupPolicy       = "policy.kubeedge.io"
)

// grants collects permissions, one for each verb of each resource.
type grants []kube.Permission

func (g *grants) need(purpose, group, resources string, verbs ...string) {
	for resource := range strings.FieldsSeq(resources) {
		name, sub, _ := strings.Cut(resource, "/")
		for _, verb := range verbs {
			*g = append(*g, kube.Permission{Group: group, Resource: name, Subresource: sub, Verb: verb, For: purpose})
		}
	}
}

// permissions are what the enabled modules do at kube-apiserver. The role of older charts lacks some (spec 01 §15.5).
func permissions(cfg *v1alpha1.CloudCoreConfig, gates featuregate.FeatureGate) []kube.Permission {
	var g grants
	m := &cfg.Modules
	if m.CloudHub.Enable {
		g.need("certificates and tokens of the edge", "", "secrets", "get", "create", "update")
		g.need("connected nodes", "", "nodes", "get", "list", "watch", "patch")
		g.need("delivery records", groupSyncs, "objectsyncs clusterobjectsyncs", "get", "list", "watch", "create", "update", "delete")
		g.need("delivery records", groupSyncs, "objectsyncs/status clusterobjectsyncs/status", "update")
	}
	if m.CloudHub.Authorization.Enforced() {
		g.need("acting as the edge node", "", "users groups", "impersonate")
	}
	if m.EdgeController.Enable {
		g.need("pods of edge nodes", "", "pods", "get", "list", "watch", "create", "delete")
		g.need("pods of edge nodes", "", "pods/status", "patch", "update")
		g.need("events of edge nodes", "", "events", "create", "update", "patch")
		g.need("content of edge pods", "", "configmaps secrets", "get", "list", "watch")
		g.need("edge nodes", "", "nodes", "get", "create", "update", "patch")
		g.need("edge nodes", "", "nodes/status", "patch", "update")
		g.need("heartbeats of edge nodes", groupCoordination, "leases", "get", "create", "update")
		g.need("service account tokens of edge pods", "", "serviceaccounts/token", "create")
		g.need("volumes of edge pods", "", "persistentvolumes persistentvolumeclaims", "get")
		g.need("volumes of edge pods", groupStorage, "volumeattachments", "get")
		g.need("certificates of edge kubelets", groupCerts, "certificatesigningrequests", "get", "create")
		g.need("message routes", groupRules, "rules ruleendpoints", "list", "watch")
	}
	if m.DeviceController.Enable {
		g.need("devices", groupDevices, "devices devicemodels", "list", "watch", "get", "update", "patch")
		g.need("states of devices", groupDevices, "devicestatuses", "list", "watch", "get", "create", "update", "patch")
	}
	if m.TaskManager.Enable {
		g.need("jobs on nodes", groupOperations, "nodeupgradejobs imageprepulljobs configupdatejobs", "list", "watch")
		g.need("jobs on nodes", groupOperations, "nodeupgradejobs/status imageprepulljobs/status configupdatejobs/status", "patch", "update")
	}
	if m.CloudStream.Enable {
		g.need("tunnel ports", "", "configmaps", "get", "create", "update")
		g.need("tunnel ports", "", "nodes/status", "patch", "update")
	}
	if gates.Enabled(options.RequireAuthorization) {
		g.need("access of service accounts", groupPolicy, "serviceaccountaccesses", "list", "watch", "create", "update", "delete")
		g.need("access of service accounts", groupRBAC, "roles rolebindings clusterroles clusterrolebindings", "list", "watch")
		g.need("access of service accounts", "", "serviceaccounts", "list", "watch")
		g.need("certificates of edge kubelets", groupCerts, "certificatesigningrequests", "list", "watch")
		g.need("certificates of edge kubelets", groupCerts, "certificatesigningrequests/approval", "update")
	}
	return g
}

// permissionTimeout bounds the questions at the start.
const permissionTimeout = 2 * time.Minute

// permissionCheck is a module that once logs what the process may not do, a line for each resource, and what that is
// needed for. It changes nothing else: a module without its permissions degrades by itself.
func permissionCheck(client kubernetes.Interface, wanted []kube.Permission) Module {
	return part{name: "permissions", run: func(ctx context.Context) error {
		logMissing(ctx, client, wanted)
		<-ctx.Done()
		return nil
	}}
}

func logMissing(ctx context.Context, client kubernetes.Interface, wanted []kube.Permission) {
	logger := klog.FromContext(ctx)
	ask, cancel := context.WithTimeout(ctx, permissionTimeout)
	defer cancel()
	missing, err := kube.MissingPermissions(ask, client, wanted)
	if err != nil {
		logger.V(2).Info("Permissions could not be checked", "reason", err)
		return
	}
	type line struct{ group, resource, purpose string }
	var order []line
	verbs := map[line][]string{}
	for _, p := range missing {
		l := line{p.Group, strings.TrimSuffix(p.Resource+"/"+p.Subresource, "/"), p.For}
		if verbs[l] == nil {
			order = append(order, l)
		}
		verbs[l] = append(verbs[l], p.Verb)
	}
	for _, l := range order {
		logger.Error(nil, "Permission is missing, grant it to cloudcore's role", "apiGroup", l.group, "resource", l.resource, "verbs", verbs[l], "neededFor", l.purpose)
	}
}
