package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// nodeStatusRequest is the status report of EdgeCore 1.11 and older; its keys are untagged (spec 04 §2.1).
type nodeStatusRequest struct {
	UID             string
	Status          corev1.NodeStatus
	ExtendResources map[corev1.ResourceName][]extendResource
}

type extendResource struct {
	Name     string `json:"name,omitempty"`
	Type     string `json:"type,omitempty"`
	Capacity string `json:"capacity,omitempty"`
}

const (
	gpuResource   = corev1.ResourceName("nvidia.com/gpu")
	gpuAnnotation = "huawei.com/gpu-status"
)

// nodePath is the resource of answers to legacy status messages: type node instead of nodestatus.
func nodePath(r *request) string {
	return message.Resource{Namespace: r.path.Namespace, Type: message.TypeNode, Name: r.path.Name}.String()
}

// insertNodeStatus registers a node of EdgeCore 1.11 and older, for which an existing Node is a success.
func (m *Module) insertNodeStatus(ctx context.Context, r *request) (reply, error) {
	if _, err := m.insertNode(ctx, r); err != nil && !apierrors.IsAlreadyExists(err) {
		return reply{}, err
	}
	return reply{content: contentOK(), path: nodePath(r)}, nil
}

// updateNodeStatus replaces the status of a Node by a legacy report (spec 04 §3.2).
func (m *Module) updateNodeStatus(ctx context.Context, r *request) (reply, error) {
	if err := ownNode(r); err != nil {
		return reply{}, err
	}
	var report nodeStatusRequest
	if err := r.DecodeContent(&report); err != nil {
		return reply{}, invalid(fmt.Errorf("node status: %w", err))
	}
	annotations, err := extendAnnotations(report.ExtendResources)
	if err != nil {
		return reply{}, err
	}
	nodes := m.client.CoreV1().Nodes()
	a := reply{content: contentOK(), path: nodePath(r)}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := nodes.Get(ctx, r.Node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if node.Annotations == nil {
			node.Annotations = map[string]string{}
		}
		maps.Copy(node.Annotations, annotations)
		node.Status = m.merged(&report.Status, &node.Status)
		got, err := nodes.UpdateStatus(m.as(ctx, r), node, metav1.UpdateOptions{})
		if err == nil {
			a.version = got.ResourceVersion
		}
		return err
	})
	return a, err
}

// merged is the reported status with the heartbeats that the edge no longer renews, and with what is not the edge's to
// say.
func (m *Module) merged(report, old *corev1.NodeStatus) corev1.NodeStatus {
	next := *report.DeepCopy()
	for i := range next.Conditions {
		if c := &next.Conditions[i]; time.Since(c.LastHeartbeatTime.Time) > m.cfg.StatusPeriod {
			c.LastHeartbeatTime = metav1.Now()
		}
	}
	next.VolumesAttached = old.VolumesAttached
	if port := old.DaemonEndpoints.KubeletEndpoint.Port; port != 0 {
		next.DaemonEndpoints.KubeletEndpoint.Port = port
	}
	return next
}

// extendAnnotations turns the extended resources of a report into the annotations that schedulers read.
func extendAnnotations(resources map[corev1.ResourceName][]extendResource) (map[string]string, error) {
	out := map[string]string{}
	for name, list := range resources {
		text, err := json.Marshal(list)
		if err != nil {
			return nil, fmt.Errorf("encode extended resource %s: %w", name, err)
		}
		out[string(name)] = string(text)
		if name != gpuResource || len(list) == 0 {
			continue
		}
		type gpu struct {
			ID      string `json:"id,omitempty"`
			Healthy bool   `json:"healthy,omitempty"`
		}
		var gpus []gpu
		for _, e := range list {
			gpus = append(gpus, gpu{ID: e.Name, Healthy: true})
		}
		if text, err = json.Marshal(gpus); err != nil {
			return nil, fmt.Errorf("encode gpu status: %w", err)
		}
		out[gpuAnnotation] = string(text)
	}
	return out, nil
}
