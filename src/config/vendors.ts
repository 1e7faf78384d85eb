// The table of formats that `config/` is handed: it judges a provider by this, and names no vendor itself.

import type { PriceList } from '../types.ts'

/** How the account of a vendor is found when there is no configuration file. */
export interface VendorEnvironment {
  /** Environment variable that holds the key. */
  readonly variable: string
  /** Name of the provider that is made from it. */
  readonly provider: string
  /** Models that serve the tiers of a start without configuration. */
  readonly models: { readonly sovereign?: string; readonly fast?: string }
  /** Takes every other model name as it was sent; serves a tier only where no other vendor found does. */
  readonly catchAll?: boolean
}

/** What an account may need to be told besides its address and key. */
export const VENDOR_SETTINGS = ['apiVersion', 'region', 'project'] as const
export type VendorSetting = (typeof VENDOR_SETTINGS)[number]

/** What is known of one `format` of a provider. */
export interface Vendor {
  /** Base URL when the configuration names none; undefined when there is no such default. */
  readonly baseUrl: string | undefined
  /** The same where the region is `global`. */
  readonly globalUrl?: string
  /** Wire format that is really spoken: a key of `formats/index.ts`. */
  readonly wireFormat: string
  /** Formats that it takes besides, at whatever address. */
  readonly alsoSpeaks?: readonly string[]
  /** What holds besides at its own address alone; a server that only speaks its format may know less. */
  readonly atHome?: { readonly alsoSpeaks?: readonly string[]; readonly quirks?: readonly string[] }
  /** Quirks of servers that speak its format, by their origin. */
  readonly servers?: Readonly<Record<string, readonly string[]>>
  /** Settings of a provider that its format reads, or that stand in `baseUrl` in braces; those it cannot do without. */
  readonly settings?: Readonly<Partial<Record<VendorSetting, 'required' | 'optional'>>>
  readonly kind: 'http' | 'simulated'
  /** What OpenTelemetry's conventions call it (`gen_ai.provider.name`). */
  readonly tracedAs: string
  /** True while the format is still to come. */
  readonly notYet?: boolean
  /** Said at start and by `check` for each provider of this format. */
  readonly warning?: string
  readonly environment?: VendorEnvironment
  /** List prices of its models, in any order; they hold where the vendor's own address is called. */
  readonly prices?: PriceList
}

/** By the word an operator writes as `format`. */
export interface Vendors {
  readonly [format: string]: Vendor
}

/** The default address of a vendor, with what the operator says of the account in its braces. */
export function baseUrlOf(
  vendor: Vendor | undefined,
  settings: Readonly<Partial<Record<VendorSetting, string | undefined>>>,
): string | undefined {
  if (vendor?.globalUrl !== undefined && settings.region === 'global') return vendor.globalUrl
  return vendor?.baseUrl?.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const setting = VENDOR_SETTINGS.find((one) => one === name)
    return (setting && settings[setting]) ?? ''
  })
}

/** Tiers of a start without a file, in the order they are tried. */
export const START_TIERS = ['sovereign', 'execution', 'fast'] as const
export type StartTier = (typeof START_TIERS)[number]

/** What a start without a file offers. */
export interface Start {
  /** Public model names that agents are told of, and who answers them. */
  readonly routes: readonly (readonly [name: string, tiers: readonly StartTier[]])[]
  /** Models of the simulated provider; that of `execution` is also a local server's that does not tell its own. */
  readonly models: Readonly<Record<StartTier, string>>
}
