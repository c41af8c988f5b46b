package options

import (
	goflag "flag"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

// flags are the parsed command line (spec 01 §1).
type flags struct {
	config        string
	minimal       bool
	full          bool
	version       versionMode
	flushInterval time.Duration
	ignored       []string // deprecated flags that were given
}

// oldLogFlags are flags of klog v1 times. Scripts and unit files still carry them; logs go to
// stderr, always. true marks those that may stand without a value.
var oldLogFlags = map[string]bool{
	"add-dir-header":                   true,
	"alsologtostderr":                  true,
	"legacy-stderr-threshold-behavior": true,
	"log-backtrace-at":                 false,
	"log-dir":                          false,
	"log-file":                         false,
	"log-file-max-size":                false,
	"logtostderr":                      true,
	"one-output":                       true,
	"skip-headers":                     true,
	"skip-log-headers":                 true,
	"stderrthreshold":                  false,
}

// add defines the flags in fs. Words of a flag may be joined by - or _.
func (f *flags) add(fs *pflag.FlagSet) {
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	fs.StringVar(&f.config, "config", v1alpha1.DefaultConfigFile, "configuration file to load")
	fs.BoolVar(&f.minimal, "minconfig", false, "print a minimal configuration and exit")
	fs.BoolVar(&f.full, "defaultconfig", false, "print all settings with their defaults and exit")
	fs.Var(&f.version, "version", "print the version and exit; --version=raw prints all that is known of the build")
	fs.Lookup("version").NoOptDefVal = "true"
	fs.DurationVar(&f.flushInterval, "log-flush-frequency", 5*time.Second, "longest time between log flushes")

	var logging goflag.FlagSet
	klog.InitFlags(&logging)
	for _, name := range []string{"v", "vmodule"} {
		fs.AddGoFlag(logging.Lookup(name))
	}
	for name, bare := range oldLogFlags {
		fs.Var(&ignoredFlag{name: name, seen: &f.ignored}, name, "has no effect, logs go to stderr")
		old := fs.Lookup(name)
		old.Hidden = true
		if bare {
			old.NoOptDefVal = "true"
		}
	}
}

// ignoredFlag takes any value and remembers that it was given.
type ignoredFlag struct {
	name string
	seen *[]string
}

func (i *ignoredFlag) String() string   { return "" }
func (i *ignoredFlag) Type() string     { return "string" }
func (i *ignoredFlag) Set(string) error { *i.seen = append(*i.seen, i.name); return nil }

// versionMode is --version[=true|false|raw].
type versionMode string

const (
	versionOff  versionMode = "false"
	versionText versionMode = "true"
	versionRaw  versionMode = "raw"
)

func (m *versionMode) String() string {
	if *m == "" {
		return string(versionOff)
	}
	return string(*m)
}

func (m *versionMode) Type() string { return "version" }

// Set takes raw and every spelling of a boolean.
func (m *versionMode) Set(s string) error {
	if s == string(versionRaw) {
		*m = versionRaw
		return nil
	}
	on, err := strconv.ParseBool(s)
	*m = versionMode(strconv.FormatBool(on))
	return err
}
