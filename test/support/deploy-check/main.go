// Judges what deploy/ hands out with the code that will read it: Helm renders and lints the chart, the Go types of
// Kubernetes decode strictly what comes out, Docker's own packages read the compose file and the Dockerfile.
// Writes what it read as JSON to standard output; ends with 1 and a reason when something is wrong.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
)

const usage = "deploy-check chart <folder> <values.yaml> | compose <file> | dockerfile <file>"

func main() {
	read, err := judge(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(read)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(args []string) (any, error) {
	switch {
	case len(args) == 3 && args[0] == "chart":
		return chart(args[1], args[2])
	case len(args) == 2 && args[0] == "compose":
		return compose(args[1])
	case len(args) == 2 && args[0] == "dockerfile":
		return dockerfile(args[1])
	}
	return nil, fmt.Errorf("usage: %s", usage)
}

// chart lints and renders; gives every object, each decoded by its own type without an unknown or repeated field.
func chart(folder, valuesFile string) (any, error) {
	values, err := chartutil.ReadValuesFile(valuesFile)
	if err != nil {
		return nil, err
	}
	for _, message := range lint.All(folder, values, "agents", true).Messages {
		if message.Severity >= support.WarningSev {
			return nil, fmt.Errorf("lint: %w", message.Err)
		}
	}
	loaded, err := loader.Load(folder)
	if err != nil {
		return nil, err
	}
	release := chartutil.ReleaseOptions{Name: "sluice", Namespace: "agents", Revision: 1, IsInstall: true}
	render, err := chartutil.ToRenderValues(loaded, values, release, chartutil.DefaultCapabilities.Copy())
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(loaded, render)
	if err != nil {
		return nil, err
	}
	known := runtime.NewScheme()
	if err := scheme.AddToScheme(known); err != nil {
		return nil, err
	}
	if err := monitoring.AddToScheme(known); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	objects := []runtime.Object{}
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		parts := releaseutil.SplitManifests(text)
		keys := make([]string, 0, len(parts))
		for key := range parts {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			object, _, err := decoder.Decode([]byte(parts[key]), nil, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, parts[key])
			}
			objects = append(objects, object)
		}
	}
	return objects, nil
}

func compose(file string) (any, error) {
	options, err := cli.NewProjectOptions([]string{file})
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

type stage struct {
	Base     string
	Commands []string
}

// dockerfile reads it with the parser of BuildKit; what its linter warns of is wrong.
func dockerfile(file string) (any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	result, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	warnings := []string{}
	warn := func(rule, description, url, message string, at []parser.Range) {
		warnings = append(warnings, fmt.Sprintf("%s: %s", rule, message))
	}
	stages, _, err := instructions.Parse(result.AST, linter.New(&linter.Config{Warn: warn}))
	if err != nil {
		return nil, err
	}
	if len(warnings) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(warnings, "\n"))
	}
	read := []stage{}
	for _, one := range stages {
		commands := []string{}
		for _, command := range one.Commands {
			commands = append(commands, fmt.Sprint(command))
		}
		read = append(read, stage{one.BaseName, commands})
	}
	return read, nil
}
