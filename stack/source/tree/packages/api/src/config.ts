// Where the other services are, and how long an on-the-fly recalculation may take.
export interface Config {
  finnBaseUrl: string;
  dixieBaseUrl: string;
  recalculationTimeoutMs: number;
}

export function configFrom(env: Record<string, string | undefined>): Config {
  const required = (name: string): string => {
    const value = env[name];
    if (!value) throw new Error(`${name} is not set`);
    return value;
  };
  return {
    finnBaseUrl: required("FINN_BASE_URL"),
    dixieBaseUrl: required("DIXIE_BASE_URL"),
    recalculationTimeoutMs: Number(env.RECALCULATION_TIMEOUT_MS ?? 250),
  };
}
