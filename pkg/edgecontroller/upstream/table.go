package upstream

import (
	"context"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// verb names a kind of request.
type verb struct{ typ, op string }

// route says how a kind of request is handled.
type route struct {
	lane   lane
	handle func(ctx context.Context, r *request) (reply, error)
	// refuse is the form of its errors.
	refuse errorForm
	// late requests are worth handling when nobody waits for the answer any more, because the edge does not repeat them.
	late bool
	// list requests may have a path without a name.
	list bool
}

// routes is the table of spec 04 §2.
func (m *Module) routes() map[verb]route {
	return map[verb]route{
		{message.TypeLease, message.OpQuery}:  {lane: laneLease, handle: m.queryLease, refuse: asObject},
		{message.TypeLease, message.OpInsert}: {lane: laneLease, handle: m.insertLease, refuse: asObject},
		{message.TypeLease, message.OpUpdate}: {lane: laneLease, handle: m.updateLease, refuse: asObject},

		{message.TypeNode, message.OpInsert}:       {lane: laneNode, handle: m.insertNode, refuse: asObject},
		{message.TypeNodePatch, message.OpPatch}:   {lane: laneNode, handle: m.patchNode, refuse: asObject},
		{message.TypeNode, message.OpQuery}:        {lane: laneNode, handle: m.queryNode, refuse: asText},
		{message.TypeNode, message.OpUpdate}:       {lane: laneNode, handle: m.updateNode, refuse: asText, late: true},
		{message.TypeNodeStatus, message.OpInsert}: {lane: laneNode, handle: m.insertNodeStatus, refuse: asText},
		{message.TypeNodeStatus, message.OpUpdate}: {lane: laneNode, handle: m.updateNodeStatus, refuse: asText},

		{message.TypePodPatch, message.OpPatch}:   {lane: lanePod, handle: m.patchPod, refuse: asObject},
		{message.TypePod, message.OpInsert}:       {lane: lanePod, handle: m.insertPod, refuse: asObject},
		{message.TypePod, message.OpDelete}:       {lane: lanePod, handle: m.deletePod, refuse: asText},
		{message.TypePodStatus, message.OpUpdate}: {lane: lanePod, handle: m.updatePodStatus, refuse: asText, late: true, list: true},

		{message.TypeConfigMap, message.OpQuery}:             {lane: laneQuery, handle: m.queryConfigMap, refuse: asText},
		{message.TypeSecret, message.OpQuery}:                {lane: laneQuery, handle: m.querySecret, refuse: asText},
		{message.TypeServiceAccountToken, message.OpQuery}:   {lane: laneQuery, handle: m.requestToken, refuse: asText},
		{message.TypePersistentVolume, message.OpQuery}:      {lane: laneQuery, handle: m.queryVolume, refuse: asText},
		{message.TypePersistentVolumeClaim, message.OpQuery}: {lane: laneQuery, handle: m.queryClaim, refuse: asText},
		{message.TypeVolumeAttachment, message.OpQuery}:      {lane: laneQuery, handle: m.queryAttachment, refuse: asText},

		{message.TypeCertificateSigningRequest, message.OpInsert}: {lane: laneQuery, handle: m.insertCSR, refuse: asObject},
		{message.TypeCertificateSigningRequest, message.OpQuery}:  {lane: laneQuery, handle: m.queryCSR, refuse: asText},

		{message.TypeEvent, message.OpInsert}: {lane: laneEvent, handle: m.insertEvent, refuse: silent, late: true},
		{message.TypeEvent, message.OpUpdate}: {lane: laneEvent, handle: m.updateEvent, refuse: silent, late: true},
		{message.TypeEvent, message.OpPatch}:  {lane: laneEvent, handle: m.patchEvent, refuse: silent, late: true},
	}
}
