// Command crdlistkeys completes generated CRD manifests: in every associative
// list (x-kubernetes-list-type: map) it makes the keys of an item required,
// unless they have a default.
//
// The apiserver refuses a CRD otherwise, and controller-gen can't know: it
// takes the list type from the markers of the field and "required" from those
// of the item type, and types of Kubernetes itself that are used as items,
// such as core/v1 ObjectReference, have only optional fields.
//
// Usage: crdlistkeys FILE...
//
// Files are rewritten in place; a file with nothing to complete is not touched.
package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"sigs.k8s.io/yaml"
)

func main() {
	for _, file := range os.Args[1:] {
		if err := completeFile(file); err != nil {
			fmt.Fprintf(os.Stderr, "crdlistkeys: complete %s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

func completeFile(file string) error {
	in, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out, err := complete(in)
	if err != nil {
		return err
	}
	if bytes.Equal(in, out) {
		return nil
	}
	return os.WriteFile(file, out, 0o644)
}

// complete returns the manifest with all list keys required. It returns the
// input itself if that is complete.
func complete(manifest []byte) ([]byte, error) {
	var crd map[string]any
	if err := yaml.Unmarshal(manifest, &crd); err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	if !requireListKeys(crd) {
		return manifest, nil
	}
	body, err := yaml.Marshal(crd)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append([]byte("---\n"), body...), nil
}

// requireListKeys completes every associative list in node and below, and
// tells whether it changed anything.
func requireListKeys(node any) bool {
	changed := false
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			changed = requireListKeys(child) || changed
		}
	case map[string]any:
		for _, child := range node {
			changed = requireListKeys(child) || changed
		}
		items, ok := node["items"].(map[string]any)
		if ok && node["x-kubernetes-list-type"] == "map" {
			keys, _ := node["x-kubernetes-list-map-keys"].([]any)
			changed = requireProperties(items, keys) || changed
		}
	}
	return changed
}

func requireProperties(schema map[string]any, names []any) bool {
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	before := len(required)
	for _, name := range names {
		property, _ := properties[fmt.Sprint(name)].(map[string]any)
		if _, hasDefault := property["default"]; !hasDefault && !slices.Contains(required, name) {
			required = append(required, name)
		}
	}
	if len(required) == before {
		return false
	}
	schema["required"] = required
	return true
}
