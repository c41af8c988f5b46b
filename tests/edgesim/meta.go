package edgesim

import (
	"encoding/json"
	"strings"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

const opDelete = message.OpDelete

// meta is the part of an object that the edge's judge looks at.
type meta struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Metadata   struct {
		Name              string          `json:"name"`
		Namespace         string          `json:"namespace"`
		UID               string          `json:"uid"`
		ResourceVersion   string          `json:"resourceVersion"`
		DeletionTimestamp json.RawMessage `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
}

// parseMeta reads what it can: values that are no objects give an empty meta.
func parseMeta(value []byte) meta {
	var m meta
	if len(value) == 0 || value[0] != '{' {
		return m
	}
	if err := json.Unmarshal(value, &m); err != nil {
		// An object with other types in these fields is still stored by the edge; its judge treats it as unnamed.
		return meta{}
	}
	return m
}

func (m *meta) isPod() bool { return m.Kind == "Pod" && m.APIVersion == "v1" }

// path is a resource path as MetaManager splits it: two or three tokens, anything else has no type (spec 03 §6.2).
type path struct {
	namespace, typ, name string
	tokens               int
}

func splitPath(resource string) path {
	tokens := strings.Split(resource, "/")
	p := path{tokens: len(tokens)}
	switch len(tokens) {
	case 2:
		p.namespace, p.typ = tokens[0], tokens[1]
	case 3:
		p.namespace, p.typ, p.name = tokens[0], tokens[1], tokens[2]
	}
	return p
}

// contentData is what the edge stores of a content: the text of a string, the JSON of anything else (spec 02 §1.1).
func contentData(m *message.Message) []byte {
	if text, ok := m.ContentText(); ok {
		return []byte(text)
	}
	if len(m.Content) == 0 {
		return []byte("null")
	}
	return m.Content
}
