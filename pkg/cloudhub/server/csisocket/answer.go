package csisocket

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

const (
	// maxAnswer is what the driver reads; the rest of a longer answer would be lost (spec 02 §4).
	maxAnswer = 10480
	// An error answer repeats parts of the request. Text and id fit into maxAnswer even if each character of them needs
	// six bytes.
	maxErrorText = 512
	maxEcho      = 640
)

var errNoAnswer = errors.New("the node could not do it: its answer is empty")

// driverAnswer gives the node's answer the form that the driver reads.
func driverAnswer(q *request, reply *message.Message) (*message.Message, error) {
	if reply == nil {
		return nil, errNoAnswer
	}
	if reply.Route.Operation == message.OpError {
		text, ok := reply.ContentText()
		if !ok {
			text = string(reply.Content)
		}
		return nil, fmt.Errorf("node %s: %s", q.node, text)
	}
	content, err := driverContent(reply)
	if err != nil {
		return nil, err
	}
	answer := *reply // the reply belongs to its sender
	answer.Header.ParentID = q.msg.Header.ID
	answer.Header.Sync = false
	answer.Content = content
	if size := answer.Frame().Len(); size > maxAnswer {
		return nil, fmt.Errorf("the node's answer makes %d bytes, the CSI driver reads %d", size, maxAnswer)
	}
	return &answer, nil
}

// driverContent returns a base64 string of the JSON of a CSI response. Over WebSocket a node sends the response as an
// object; a node that held bytes sends base64 already; null stands for a failure (spec 03 §11).
func driverContent(reply *message.Message) (json.RawMessage, error) {
	if len(reply.Content) == 0 || string(reply.Content) == "null" {
		return nil, errNoAnswer
	}
	text, isText := reply.ContentText()
	if !isText {
		return encoded(reply.Content), nil
	}
	decoded, err := base64.StdEncoding.DecodeString(text)
	isBase64 := err == nil && text != ""
	switch {
	case isBase64 && json.Valid(decoded):
		if string(decoded) == "null" {
			return nil, errNoAnswer
		}
		return reply.Content, nil
	case text == "null":
		return nil, errNoAnswer
	case json.Valid([]byte(text)):
		return encoded(json.RawMessage(text)), nil
	case isBase64:
		return reply.Content, nil
	default:
		return nil, fmt.Errorf("the node's answer of %d bytes is neither JSON nor base64", len(text))
	}
}

func encoded(raw json.RawMessage) json.RawMessage {
	return message.Text(base64.StdEncoding.EncodeToString(raw))
}

// errorAnswer always fits into what the driver reads.
func errorAnswer(q *request, text string) *message.Message {
	asked := *q.msg
	asked.Header.ID = cut(asked.Header.ID, maxEcho)
	asked.Route.Resource = cut(asked.Route.Resource, maxEcho)
	answer := message.ErrorReply(&asked, message.ModuleHub, cut(text, maxErrorText))
	if group := q.msg.Route.Group; group != "" {
		answer.Route.Group = cut(group, maxEcho)
	}
	if answer.Frame().Len() > maxAnswer {
		answer.Route.Resource, answer.Route.Group = "", message.GroupResource
	}
	return answer
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}
