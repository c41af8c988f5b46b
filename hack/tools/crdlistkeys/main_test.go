package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// manifest makes a CRD with one list property; list and item are lines of the
// list's and of the item's schema.
func manifest(list, item []string) string {
	join := func(indent string, lines []string) string {
		var b strings.Builder
		for _, line := range lines {
			b.WriteString(indent + line + "\n")
		}
		return b.String()
	}
	const indent = "            "
	return `---
spec:
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        properties:
          refs:
` + indent + "items:\n" + join(indent+"  ", item) + join(indent, list)
}

func TestComplete(t *testing.T) {
	mapList := []string{
		"type: array",
		"x-kubernetes-list-map-keys:",
		"- name",
		"x-kubernetes-list-type: map",
	}
	tests := []struct {
		name       string
		list       []string
		item, want []string
	}{
		{
			name: "an optional key becomes required",
			list: mapList,
			item: []string{"properties:", "  name:", "    type: string", "type: object"},
			want: []string{"properties:", "  name:", "    type: string", "required:", "- name", "type: object"},
		},
		{
			name: "other required properties stay",
			list: mapList,
			item: []string{"properties:", "  name:", "    type: string", "required:", "- uid", "type: object"},
			want: []string{"properties:", "  name:", "    type: string", "required:", "- uid", "- name", "type: object"},
		},
		{
			name: "a required key is left alone",
			list: mapList,
			item: []string{"properties:", "  name:", "    type: string", "required:", "- name", "type: object"},
		},
		{
			name: "a key with a default is left alone",
			list: mapList,
			item: []string{"properties:", "  name:", `    default: ""`, "    type: string", "type: object"},
		},
		{
			name: "an atomic list is left alone",
			list: []string{"type: array", "x-kubernetes-list-type: atomic"},
			item: []string{"properties:", "  name:", "    type: string", "type: object"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := manifest(tt.list, tt.item)
			want := in
			if tt.want != nil {
				want = manifest(tt.list, tt.want)
			}
			file := filepath.Join(t.TempDir(), "crd.yaml")
			if err := os.WriteFile(file, []byte(in), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := completeFile(file); err != nil {
				t.Fatalf("completeFile: %v", err)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("completed manifest\ngot:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestCompleteRefusesBrokenManifest(t *testing.T) {
	if out, err := complete([]byte("spec: [")); err == nil {
		t.Errorf("complete of broken YAML: got %q, want an error", out)
	}
}
