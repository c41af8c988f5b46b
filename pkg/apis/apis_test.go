package apis_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"

	"github.com/cloudcore-io/cloudcore/config/crds"
	devicesv1alpha2 "github.com/cloudcore-io/cloudcore/pkg/apis/devices/v1alpha2"
	"github.com/cloudcore-io/cloudcore/pkg/generated/clientset/versioned/scheme"
)

// schemaOnly are the kinds without a client, so not in the client's scheme.
var schemaOnly = map[schema.GroupVersionKind]func() any{
	{Group: "devices.kubeedge.io", Version: "v1alpha2", Kind: "Device"}:       func() any { return new(devicesv1alpha2.Device) },
	{Group: "devices.kubeedge.io", Version: "v1alpha2", Kind: "DeviceModel"}:  func() any { return new(devicesv1alpha2.DeviceModel) },
	{Group: "devices.kubeedge.io", Version: "v1alpha2", Kind: "DeviceStatus"}: func() any { return new(devicesv1alpha2.DeviceStatus) },
}

// newObject returns an empty object of a kind.
func newObject(t *testing.T, gvk schema.GroupVersionKind) any {
	t.Helper()
	if create, ok := schemaOnly[gvk]; ok {
		return create()
	}
	obj, err := scheme.Scheme.New(gvk)
	if err != nil {
		t.Fatalf("new %s: %v", gvk, err)
	}
	return obj
}

// sample is one document of testdata, as JSON.
type sample struct {
	name string
	gvk  schema.GroupVersionKind
	data []byte
}

func samples(t *testing.T) []sample {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("glob testdata: %q, %v", files, err)
	}
	var out []sample
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for docs := yaml.NewYAMLOrJSONDecoder(f, 1024); ; {
			var raw json.RawMessage
			if err := docs.Decode(&raw); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			var meta metav1.PartialObjectMetadata
			if err := json.Unmarshal(raw, &meta); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			gvk := meta.GroupVersionKind()
			out = append(out, sample{
				name: fmt.Sprintf("%s/%s/%s", gvk.Version, gvk.Kind, meta.Name),
				gvk:  gvk,
				data: raw,
			})
		}
	}
	return out
}

// decode decodes data into obj and fails on anything that obj has no place
// for.
func decode(t *testing.T, data []byte, obj any) {
	t.Helper()
	strict, err := kjson.UnmarshalStrict(data, obj)
	if err = errors.Join(append(strict, err)...); err != nil {
		t.Fatalf("decode %s: %v", data, err)
	}
}

func encode(t *testing.T, obj any) []byte {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatalf("encode %T: %v", obj, err)
	}
	return data
}

// generic returns JSON as maps, lists and literal numbers.
func generic(t *testing.T, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", data, err)
	}
	return v
}

// lost lists what of want is missing or different in got. What got has beyond
// want must be empty.
func lost(at string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		got, _ := got.(map[string]any)
		var out []string
		for key, value := range want {
			out = append(out, lost(at+"."+key, value, got[key])...)
		}
		for key, value := range got {
			if _, ok := want[key]; !ok && !empty(value) {
				out = append(out, fmt.Sprintf("%s.%s: got %v, want nothing", at, key, value))
			}
		}
		return out
	case []any:
		got, _ := got.([]any)
		if len(got) != len(want) {
			return []string{fmt.Sprintf("%s: got %d items, want %d", at, len(got), len(want))}
		}
		var out []string
		for i := range want {
			out = append(out, lost(fmt.Sprintf("%s[%d]", at, i), want[i], got[i])...)
		}
		return out
	default:
		if want == got {
			return nil
		}
		return []string{fmt.Sprintf("%s: got %v, want %v", at, got, want)}
	}
}

// empty tells whether a value says no more than its absence.
func empty(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, value := range v {
			if !empty(value) {
				return false
			}
		}
		return true
	case []any:
		return len(v) == 0
	default:
		return v == nil || v == "" || v == false || v == json.Number("0")
	}
}

// TestSamplesRoundTrip decodes objects as they are in clusters, encodes them
// again and looks for anything that got lost or came in.
func TestSamplesRoundTrip(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			obj := newObject(t, s.gvk)
			decode(t, s.data, obj)
			data := encode(t, obj)
			for _, line := range lost("", generic(t, s.data), generic(t, data)) {
				t.Error(line)
			}

			again := newObject(t, s.gvk)
			decode(t, data, again)
			if !reflect.DeepEqual(obj, again) {
				t.Errorf("second decoding: got %s, want %s", encode(t, again), data)
			}
		})
	}
}

// TestSamplesCoverSchemas makes sure that the samples have every kind in every
// version.
func TestSamplesCoverSchemas(t *testing.T) {
	want := definedKinds(t)
	for _, s := range samples(t) {
		if !want[s.gvk] {
			t.Errorf("sample %s: no definition of %s", s.name, s.gvk)
		}
	}
	have := make(map[schema.GroupVersionKind]bool)
	for _, s := range samples(t) {
		have[s.gvk] = true
	}
	for gvk := range want {
		if !have[gvk] {
			t.Errorf("no sample of %s", gvk)
		}
	}
}

// TestUnknownFieldsAreRefused is the proof that the round trip is strict.
func TestUnknownFieldsAreRefused(t *testing.T) {
	for _, s := range samples(t) {
		obj := generic(t, s.data).(map[string]any)
		obj["noSuchField"] = "x"
		strict, err := kjson.UnmarshalStrict(encode(t, obj), newObject(t, s.gvk))
		if err != nil || len(strict) != 1 || !strings.Contains(strict[0].Error(), "noSuchField") {
			t.Errorf("%s: got %v, %v, want one complaint about noSuchField", s.name, strict, err)
		}
	}
}

// definedKinds returns the kinds that config/crds defines.
func definedKinds(t *testing.T) map[schema.GroupVersionKind]bool {
	t.Helper()
	all, err := crds.List()
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[schema.GroupVersionKind]bool)
	for _, crd := range all {
		for _, v := range crd.Spec.Versions {
			kinds[schema.GroupVersionKind{Group: crd.Spec.Group, Version: v.Name, Kind: crd.Spec.Names.Kind}] = true
		}
	}
	return kinds
}

// TestSchemeKnowsEveryDefinedKind compares the client's scheme with the
// definitions, in both directions.
func TestSchemeKnowsEveryDefinedKind(t *testing.T) {
	defined := definedKinds(t)
	for gvk := range defined {
		if _, ok := schemaOnly[gvk]; ok {
			continue
		}
		list := gvk
		list.Kind += "List"
		for _, want := range []schema.GroupVersionKind{gvk, list} {
			if !scheme.Scheme.Recognizes(want) {
				t.Errorf("the scheme doesn't know %s", want)
			}
		}
	}
	for gvk := range scheme.Scheme.AllKnownTypes() {
		base := gvk
		base.Kind = strings.TrimSuffix(gvk.Kind, "List")
		ours := strings.HasSuffix(gvk.Group, ".kubeedge.io") && !isMetaKind(gvk.Kind)
		if ours && !defined[base] {
			t.Errorf("the scheme knows %s, which no definition has", gvk)
		}
	}
}

// isMetaKind tells whether a kind belongs to every group version.
func isMetaKind(kind string) bool {
	if kind == metav1.WatchEventKind {
		return true
	}
	options := []any{
		metav1.ListOptions{}, metav1.GetOptions{}, metav1.DeleteOptions{},
		metav1.CreateOptions{}, metav1.UpdateOptions{}, metav1.PatchOptions{},
	}
	return slices.ContainsFunc(options, func(o any) bool { return reflect.TypeOf(o).Name() == kind })
}

// TestKeysAlwaysPresent pins the keys that edge nodes are sent even when they
// say nothing.
func TestKeysAlwaysPresent(t *testing.T) {
	const devices, operations = "devices.kubeedge.io/v1beta1", "operations.kubeedge.io/"
	tests := []struct {
		apiVersion, kind string
		in, want         string
	}{
		// spec 05 §1.1
		{
			devices, "Device", `{"spec":{"properties":[{"name":"a"}]}}`,
			`{"spec":{"properties":[{"name":"a","desired":{"value":""},"visitors":{}}],"protocol":{}},"status":{}}`,
		},
		// spec 05 §4.5
		{devices, "DeviceStatus", `{}`, `{"spec":{},"status":{}}`},
		// spec 10 §A.1
		{operations + "v1alpha2", "NodeUpgradeJob", `{}`, `{"spec":{"imageDigestGatter":null},"status":{"phase":""}}`},
		{operations + "v1alpha1", "NodeUpgradeJob", `{}`, `{"spec":{"imageDigestGatter":null},"status":{}}`},
	}
	for _, tt := range tests {
		t.Run(tt.apiVersion+"/"+tt.kind, func(t *testing.T) {
			obj := newObject(t, schema.FromAPIVersionAndKind(tt.apiVersion, tt.kind))
			decode(t, []byte(tt.in), obj)
			got := generic(t, encode(t, obj)).(map[string]any)
			maps.DeleteFunc(got, func(key string, _ any) bool { return key == "metadata" })
			if want := generic(t, []byte(tt.want)); !reflect.DeepEqual(got, want) {
				t.Errorf("encoding of %s\ngot  %s\nwant %s", tt.in, encode(t, got), tt.want)
			}
		})
	}
}

// TestFreeFormSettingsAreUntouched makes sure that what only mappers
// understand passes through us byte by byte, numbers above all.
func TestFreeFormSettingsAreUntouched(t *testing.T) {
	for _, settings := range []string{
		`{}`, `{"n":12345678901234567890,"f":1.0,"e":1e3,"z":null,"l":[1,"a",{"b":[]}]}`,
	} {
		obj := newObject(t, schema.FromAPIVersionAndKind("devices.kubeedge.io/v1beta1", "Device"))
		decode(t, []byte(`{"spec":{"protocol":{"protocolName":"p","configData":`+settings+`}}}`), obj)
		if got, want := string(encode(t, obj)), `"configData":`+settings+`}`; !strings.Contains(got, want) {
			t.Errorf("encoding: got %s, want %s in it", got, want)
		}
	}
}
