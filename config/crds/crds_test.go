package crds_test

import (
	"bufio"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/cloudcore-io/cloudcore/config/crds"
)

// version is what a served version of a resource offers.
type version struct {
	name    string
	storage bool
	status  bool // has the status subresource
}

// resource is what kubectl and clients see of a resource.
type resource struct {
	group, kind, plural, singular string

	shortNames []string
	namespaced bool
	versions   []version
}

func (r resource) name() string { return r.plural + "." + r.group }

// resources are the definitions that clusters have today. None has printer
// columns, categories, a scale subresource or a conversion webhook.
var resources = []resource{
	{
		group: "devices.kubeedge.io", kind: "Device", plural: "devices", singular: "device",
		namespaced: true, versions: []version{{name: "v1alpha2"}, {name: "v1beta1", storage: true}},
	},
	{
		group: "devices.kubeedge.io", kind: "DeviceModel", plural: "devicemodels", singular: "devicemodel",
		namespaced: true, versions: []version{{name: "v1alpha2"}, {name: "v1beta1", storage: true}},
	},
	{
		group: "devices.kubeedge.io", kind: "DeviceStatus", plural: "devicestatuses", singular: "devicestatus",
		namespaced: true, versions: []version{{name: "v1alpha2"}, {name: "v1beta1", storage: true}},
	},
	{
		group: "operations.kubeedge.io", kind: "ConfigUpdateJob", plural: "configupdatejobs", singular: "configupdatejob",
		versions: []version{{name: "v1alpha2", storage: true, status: true}},
	},
	{
		group: "operations.kubeedge.io", kind: "ImagePrePullJob", plural: "imageprepulljobs", singular: "imageprepulljob",
		versions: []version{{name: "v1alpha1", status: true}, {name: "v1alpha2", storage: true, status: true}},
	},
	{
		group: "operations.kubeedge.io", kind: "NodeUpgradeJob", plural: "nodeupgradejobs", singular: "nodeupgradejob",
		versions: []version{{name: "v1alpha1", status: true}, {name: "v1alpha2", storage: true, status: true}},
	},
	{
		group: "policy.kubeedge.io", kind: "ServiceAccountAccess", plural: "serviceaccountaccesses", singular: "serviceaccountaccess",
		shortNames: []string{"saaccess"}, namespaced: true,
		versions: []version{{name: "v1alpha1", storage: true, status: true}},
	},
	{
		group: "reliablesyncs.kubeedge.io", kind: "ClusterObjectSync", plural: "clusterobjectsyncs", singular: "clusterobjectsync",
		versions: []version{{name: "v1alpha1", storage: true, status: true}},
	},
	{
		group: "reliablesyncs.kubeedge.io", kind: "ObjectSync", plural: "objectsyncs", singular: "objectsync",
		namespaced: true, versions: []version{{name: "v1alpha1", storage: true, status: true}},
	},
	{
		group: "rules.kubeedge.io", kind: "Rule", plural: "rules", singular: "rule",
		namespaced: true, versions: []version{{name: "v1", storage: true}},
	},
	{
		group: "rules.kubeedge.io", kind: "RuleEndpoint", plural: "ruleendpoints", singular: "ruleendpoint",
		shortNames: []string{"re"}, namespaced: true,
		versions: []version{{name: "v1", storage: true}},
	},
}

// list returns our definitions by name.
func list(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	all, err := crds.List()
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	byName := make(map[string]*apiextensionsv1.CustomResourceDefinition, len(all))
	for _, crd := range all {
		byName[crd.Name] = crd
	}
	if len(byName) != len(all) {
		t.Fatalf("List: %d definitions with %d names", len(all), len(byName))
	}
	return byName
}

func TestNamesAndVersions(t *testing.T) {
	all := list(t)
	if len(all) != len(resources) {
		t.Errorf("got %d definitions, want %d", len(all), len(resources))
	}
	for _, want := range resources {
		t.Run(want.name(), func(t *testing.T) {
			crd, ok := all[want.name()]
			if !ok {
				t.Fatal("no such definition")
			}
			names := crd.Spec.Names
			gotNames := []string{crd.Spec.Group, names.Kind, names.ListKind, names.Plural, names.Singular}
			wantNames := []string{want.group, want.kind, want.kind + "List", want.plural, want.singular}
			if !slices.Equal(gotNames, wantNames) {
				t.Errorf("group, kind, list kind, plural, singular: got %q, want %q", gotNames, wantNames)
			}
			if !slices.Equal(names.ShortNames, want.shortNames) {
				t.Errorf("short names: got %q, want %q", names.ShortNames, want.shortNames)
			}
			if len(names.Categories) != 0 {
				t.Errorf("categories: got %q, want none", names.Categories)
			}
			if got := crd.Spec.Scope == apiextensionsv1.NamespaceScoped; got != want.namespaced {
				t.Errorf("namespaced: got %t, want %t", got, want.namespaced)
			}
			if crd.Spec.Conversion != nil || crd.Spec.PreserveUnknownFields {
				t.Errorf("got conversion %v, preserveUnknownFields %t, want neither",
					crd.Spec.Conversion, crd.Spec.PreserveUnknownFields)
			}

			var got []version
			for _, v := range crd.Spec.Versions {
				if !v.Served || v.Deprecated {
					t.Errorf("version %s: served %t, deprecated %t, want only served", v.Name, v.Served, v.Deprecated)
				}
				if len(v.AdditionalPrinterColumns) != 0 || len(v.SelectableFields) != 0 {
					t.Errorf("version %s: got columns %v, selectable fields %v, want none",
						v.Name, v.AdditionalPrinterColumns, v.SelectableFields)
				}
				if v.Subresources != nil && v.Subresources.Scale != nil {
					t.Errorf("version %s: has a scale subresource", v.Name)
				}
				got = append(got, version{
					name: v.Name, storage: v.Storage,
					status: v.Subresources != nil && v.Subresources.Status != nil,
				})
			}
			if !slices.Equal(got, want.versions) {
				t.Errorf("versions: got %+v, want %+v", got, want.versions)
			}
		})
	}
}

// TestFields compares every schema, field by field, with what clusters have.
func TestFields(t *testing.T) {
	want := readFields(t)
	for name, crd := range list(t) {
		for _, v := range crd.Spec.Versions {
			section := name + " " + v.Name
			t.Run(section, func(t *testing.T) {
				got := fields(v.Schema.OpenAPIV3Schema)
				for _, line := range got {
					if !slices.Contains(want[section], line) {
						t.Errorf("unexpected: %s", line)
					}
				}
				for _, line := range want[section] {
					if !slices.Contains(got, line) {
						t.Errorf("missing:    %s", line)
					}
				}
			})
			delete(want, section)
		}
	}
	for section := range want {
		t.Errorf("no definition of %s", section)
	}
}

// readFields reads testdata/fields.txt by section.
func readFields(t *testing.T) map[string][]string {
	t.Helper()
	f, err := os.Open("testdata/fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sections := make(map[string][]string)
	section := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		switch {
		case line == "" || strings.HasPrefix(line, "//"):
		case strings.HasPrefix(line, "# "):
			section = strings.TrimPrefix(line, "# ")
		default:
			sections[section] = append(sections[section], line)
		}
	}
	if len(sections) == 0 {
		t.Fatal("testdata/fields.txt has no sections")
	}
	return sections
}

// fields describes the schema of an object in the form of testdata/fields.txt.
func fields(schema *apiextensionsv1.JSONSchemaProps) []string {
	root := *schema
	root.Properties = maps.Clone(schema.Properties)
	for _, name := range []string{"apiVersion", "kind", "metadata"} {
		delete(root.Properties, name)
	}
	return appendFields(nil, &root, "", false)
}

func appendFields(out []string, s *apiextensionsv1.JSONSchemaProps, at string, required bool) []string {
	out = append(out, describe(s, at, required))
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		property := s.Properties[name]
		child := name
		if at != "" {
			child = at + "." + name
		}
		out = appendFields(out, &property, child, slices.Contains(s.Required, name))
	}
	if s.Items != nil {
		out = appendFields(out, s.Items.Schema, at+"[]", false)
	}
	if s.AdditionalProperties != nil {
		out = appendFields(out, s.AdditionalProperties.Schema, at+"{}", false)
	}
	return out
}

func describe(s *apiextensionsv1.JSONSchemaProps, at string, required bool) string {
	if at == "" {
		at = "."
	}
	words := []string{at, s.Type}
	if s.Format != "" {
		words = append(words, s.Format)
	}
	if required {
		words = append(words, "required")
	}
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, strings.Trim(string(v.Raw), `"`))
		}
		words = append(words, "enum="+strings.Join(values, ","))
	}
	if s.Default != nil {
		words = append(words, "default="+string(s.Default.Raw))
	}
	if s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields {
		words = append(words, "open")
	}
	if s.XMapType != nil {
		words = append(words, *s.XMapType)
	}
	if s.XListType != nil {
		word := *s.XListType
		if len(s.XListMapKeys) > 0 {
			word += "=" + strings.Join(s.XListMapKeys, ",")
		}
		words = append(words, word)
	}

	// Whatever else a schema can demand, none of ours does.
	rest := *s
	rest.Type, rest.Format, rest.Enum, rest.Default, rest.Description = "", "", nil, nil, ""
	rest.Properties, rest.Items, rest.AdditionalProperties, rest.Required = nil, nil, nil, nil
	rest.XPreserveUnknownFields, rest.XMapType, rest.XListType, rest.XListMapKeys = nil, nil, nil, nil
	if !reflect.DeepEqual(rest, apiextensionsv1.JSONSchemaProps{}) {
		words = append(words, fmt.Sprintf("other=%+v", rest))
	}
	return strings.Join(words, " ")
}

func TestFileNames(t *testing.T) {
	all := list(t)
	files, err := fs.Glob(crds.FS(), "*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, crd := range all {
		folder, _, _ := strings.Cut(crd.Spec.Group, ".")
		want = append(want, path.Join(folder, crd.Spec.Group+"_"+crd.Spec.Names.Plural+".yaml"))
	}
	slices.Sort(want)
	if !slices.Equal(files, want) {
		t.Errorf("files: got %q, want %q", files, want)
	}
}

func TestListOwnsItsResult(t *testing.T) {
	first := list(t)
	for _, crd := range first {
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties = nil
	}
	for name, crd := range list(t) {
		if crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties == nil {
			t.Errorf("%s: a change to one result shows in the next", name)
		}
	}
}
