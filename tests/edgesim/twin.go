package edgesim

import (
	"encoding/json"

	"github.com/google/uuid"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// twin is the part of DeviceTwin that every edge shows to the cloud: after each connect it asks for the devices of the
// node, and repeats that until it is confirmed (spec 02 §2.6, spec 03 §12.1). It belongs to the core.
type twin struct {
	c       *core
	pending *message.Message
	repeat  *task
}

func (t *twin) connected() {
	now := t.c.now().UnixMilli()
	event, err := json.Marshal(struct {
		EventType string `json:"event_type"`
		EventID   string `json:"event_id"`
		GroupID   string `json:"group_id"`
		Operation string `json:"operation"`
		Timestamp int64  `json:"timestamp"`
	}{"group_membership_event", uuid.NewString(), t.c.n.opts.Name, "detail", now})
	if err != nil { // strings and a number always marshal
		panic(err)
	}
	t.pending = t.c.message(message.Route{
		Source: message.SourceTwin, Group: message.GroupResource, Operation: message.OpGet, Resource: "membership/detail",
	}, message.Text(string(event)))
	t.send()
}

func (t *twin) send() {
	t.c.agenda.cancel(t.repeat)
	t.repeat = nil
	if t.pending == nil {
		return
	}
	if t.c.online {
		t.c.send(outgoing{msg: t.pending})
	}
	t.repeat = t.c.after(t.c.n.opts.Timing.TwinRepeat, t.send)
}

// confirm ends the repetition of the message with that ID.
func (t *twin) confirm(parent string) {
	if t.pending != nil && t.pending.Header.ID == parent {
		t.pending = nil
		t.c.agenda.cancel(t.repeat)
		t.repeat = nil
	}
}
