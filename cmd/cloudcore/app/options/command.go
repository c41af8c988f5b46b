package options

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/featuregate"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

// Startup is what the command line amounts to: a configuration that is complete and valid.
// It is read-only.
type Startup struct {
	Config       *v1alpha1.CloudCoreConfig
	FeatureGates featuregate.FeatureGate
	File         string // where Config came from
	digest       [sha256.Size]byte
}

// Deps are what the command needs from outside.
type Deps struct {
	// Run runs cloudcore and returns when it is down. Its context is the one that the command
	// was executed with.
	Run func(context.Context, *Startup) error
	// DetectAddress finds the address of this host.
	DetectAddress func() (net.IP, error)
	// Version is what --version prints.
	Version apiversion.Info
}

// NewCommand returns the cloudcore command. It does nothing until it is executed.
func NewCommand(deps Deps) *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "cloudcore",
		Short: "Cloud side of KubeEdge",
		Long: `cloudcore connects a Kubernetes cluster with its edge nodes: it tells each node
which objects to hold, reports back what the node says, and tunnels logs and exec.
It reads one configuration file and talks to kube-apiserver; edge nodes dial in.`,
		Args: cobra.ArbitraryArgs, // ignored, as they have always been
		// Execute prints both: cobra would send the usage to where the help goes.
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if done, err := f.print(cmd.OutOrStdout(), deps); done || err != nil {
				return err
			}
			klog.StartFlushDaemon(f.flushInterval)
			defer klog.Flush()
			ctx := cmd.Context()
			f.log(ctx, cmd.Flags(), deps.Version)
			s, err := f.startup(ctx, deps)
			if err != nil {
				return err
			}
			return deps.Run(ctx, s)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	cmd.Flags().SortFlags = false
	f.add(cmd.Flags())
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // fails only for an unknown flag
	return cmd
}

// usageError marks that the command line is wrong, not what it asked for.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// Execute runs the command and returns the exit code of the process: 0 after an orderly end,
// also of the print flags, 1 after any error, which it writes to the command's error output.
func Execute(ctx context.Context, cmd *cobra.Command) int {
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	cmd.PrintErrln("Error:", err.Error())
	var wrong *usageError
	if errors.As(err, &wrong) {
		cmd.PrintErr(cmd.UsageString())
	}
	return 1
}

// print answers the flags that only print; done tells that one was given. The minimal file
// wins over the full one.
func (f *flags) print(w io.Writer, deps Deps) (done bool, err error) {
	if f.version == versionText {
		_, err := fmt.Fprintf(w, "KubeEdge %s\n", deps.Version.GitVersion)
		return true, err
	}
	if f.version == versionRaw {
		_, err := fmt.Fprintf(w, "%#v\n", deps.Version)
		return true, err
	}
	if !f.minimal && !f.full {
		return false, nil
	}
	address, err := deps.DetectAddress()
	if err != nil {
		address = nil // an empty list means the same at start
	}
	if f.minimal {
		return true, PrintMinimal(w, address)
	}
	return true, PrintDefault(w, address)
}

// log writes what an operator wants to know of a start: version, flags, what was ignored.
func (f *flags) log(ctx context.Context, fs *pflag.FlagSet, version apiversion.Info) {
	logger := klog.FromContext(ctx)
	logger.Info("Starting cloudcore", "version", version.GitVersion, "commit", version.GitCommit, "config", f.config)
	for _, name := range f.ignored {
		logger.Info("Flag has no effect any more, logs go to stderr", "flag", "--"+name)
	}
	fs.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			logger.V(1).Info("Flag", "name", "--"+flag.Name, "value", flag.Value.String())
		}
	})
}

// startup loads, checks and completes the configuration.
func (f *flags) startup(ctx context.Context, deps Deps) (*Startup, error) {
	logger := klog.FromContext(ctx)
	warn := func(warnings []v1alpha1.Warning) {
		for _, w := range warnings {
			logger.Info("Configuration warning", "key", w.Path, "warning", w.Message)
		}
	}
	data, err := readFile(f.config)
	if err != nil {
		return nil, err
	}
	cfg, warnings, err := Decode(data)
	warn(warnings)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", f.config, err)
	}
	warn(cfg.Warnings())
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("%s is not valid: %w", f.config, errs.ToAggregate())
	}
	gates, warnings, err := FeatureGates(cfg.FeatureGates)
	warn(warnings)
	if err != nil {
		return nil, err
	}
	warnings, err = cfg.Modules.CloudHub.CleanAddresses(deps.DetectAddress)
	warn(warnings)
	if err != nil {
		return nil, err
	}
	return &Startup{Config: cfg, FeatureGates: gates, File: f.config, digest: sha256.Sum256(data)}, nil
}
